"""The public port's paths that are not relayed: the list of models, liveness and readiness."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.api.answers import NO_STORE, Resource, application, json_response
from gateway.api.closing import Closing
from gateway.core.endpoints import RELAYED
from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot, ReplicaState, ReplicaView
from gateway.errors import Draining, ModelNotFound, NotFound, Unavailable

CREATED = 1_700_000_000
"""OpenAI's `created` of a model. Replicas invent a new one at each call; one that never changes can be cached."""

ON_ADMIN_PORT = "at /dashboard on the admin port, which is admin.port in the config"


def public_app(board: Board, draining: Callable[[], bool], *, dashboard: str = ON_ADMIN_PORT) -> ASGIApp:
    """What uvicorn's own protocol serves for the front. Every answer closes its connection.

    `dashboard`: where people find it; a URL if they can reach one.
    """
    paths = _Paths(board, draining, dashboard)
    routes = [
        Route("/", Resource(paths.about)),
        Route("/healthz", Resource(paths.alive)),
        Route("/readyz", Resource(paths.ready)),
        Route("/v1/models", Resource(paths.models)),
        Route("/v1/models/{model:path}", Resource(paths.model)),
        *(Route(path.decode(), Resource(allow=("POST",))) for path in RELAYED),
    ]
    return Closing(application(routes))


def served_models(fleet: FleetSnapshot) -> list[str]:
    """The union of what the replicas serve, each name once, in order."""
    return sorted(set().union(*(view.models or () for view in fleet.replicas)))


def takes_traffic(view: ReplicaView) -> bool:
    """Whether requests may count on this replica: it is ready, or it answered before and failed only lately, or warms.

    Else one reset connection, or a warm-up, would take a gateway with one replica out of its own load balancer.
    """
    able = view.state in (ReplicaState.SUSPECT, ReplicaState.WARMING) and view.seen_at is not None
    return able or view.state is ReplicaState.READY


class _Paths:
    def __init__(self, board: Board, draining: Callable[[], bool], dashboard: str) -> None:
        self._board = board
        self._draining = draining
        self._dashboard = dashboard

    def about(self, request: Request) -> Response:
        return json_response(
            {
                "name": "vllm-gateway",
                "about": "an OpenAI-compatible gateway in front of vLLM replicas",
                "api": "/v1",
                "models": "/v1/models",
                "dashboard": self._dashboard,
            }
        )

    def alive(self, request: Request) -> Response:
        return json_response({"status": "alive"}, NO_STORE)

    def ready(self, request: Request) -> Response:
        """200 while a replica can take traffic and the gateway is not draining."""
        if self._draining():
            raise Draining("the gateway is shutting down", retry_after_s=1)
        replicas = self._board.current.replicas
        able = sum(map(takes_traffic, replicas))
        if not able:
            raise Unavailable(f"none of {len(replicas)} replicas can take traffic", retry_after_s=1)
        return json_response({"status": "ready", "replicas": able}, NO_STORE)

    def models(self, request: Request) -> Response:
        names = served_models(self._board.current)
        return json_response({"object": "list", "data": [_model(name) for name in names]})

    def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if not name:
            raise NotFound(f"there is nothing at {request.url.path}")
        if name not in served_models(self._board.current):
            raise ModelNotFound(f"no replica serves the model {name!r}; see GET /v1/models", param="model")
        return json_response(_model(name))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "vllm-gateway"}
