"""A fleet and a dashboard's figures, as a test wants them."""

from gateway.api.dashboard import DashboardState, ReplicaRow
from gateway.core.explain import Asked, Explanation
from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.errors import BadRequest


def view(name: str, state: ReplicaState, models: set[str] | None, seen_at: float | None = 1.0) -> ReplicaView:
    replica = Replica(ReplicaId(name), f"http://{name}:8000")
    return ReplicaView(replica, state, None if models is None else frozenset(models), seen_at=seen_at)


def board_of(*views: ReplicaView) -> Board:
    return Board(FleetSnapshot(views))


def row(name: str = "r0", **more: object) -> ReplicaRow:
    """A replica of which next to nothing is known."""
    fields: dict[str, object] = dict.fromkeys(ReplicaRow.__struct_fields__)
    return ReplicaRow(**(fields | {"name": name, "url": f"http://{name}:8000", "state": "suspect"} | more))


def dashboard(*rows: ReplicaRow, **more: object) -> DashboardState:
    fields: dict[str, object] = dict.fromkeys(DashboardState.__struct_fields__)
    told = {"version": "1.2.3", "policy": "prefix", "uptime_s": 5.0, "draining": False, "replicas": list(rows)}
    return DashboardState(**(fields | told | more))


def explanation(asked: Asked) -> Explanation:
    """One that repeats what was asked; an empty body is refused."""
    if not asked.body:
        raise BadRequest("no body")
    said = f"{asked.path} {asked.content_type.decode()} {asked.session} {len(asked.body)}"
    return Explanation(asked.path or "", None, "prefix", "tokens", "load", 0, 0, 0, said, (), ())
