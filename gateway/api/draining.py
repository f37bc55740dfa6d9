"""Takes one replica out of traffic and puts it back, by command: `POST /admin/replicas/NAME/drain|resume`."""

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.answers import NO_STORE, Resource, json_response
from gateway.api.dashboard import ReplicaRow
from gateway.core.types import Sign
from gateway.errors import Forbidden, NotFound

Command = Callable[[str, Sign], bool]
"""Tells the replica of this name to drain or to resume; `False` if there is none. Twice is as once."""


def nobody(name: str, sign: Sign) -> bool:
    """The command of an application without replicas."""
    return False


def drain_routes(command: Command, rows: Callable[[], list[ReplicaRow]]) -> list[Route]:
    """The two paths. Each answers with the replica's row as it is then."""

    def resource(sign: Sign) -> Resource:
        async def post(request: Request) -> Response:
            refuse_other_pages(request)
            name = request.path_params["name"]
            if not command(name, sign):
                raise NotFound(f"there is no replica {name!r}; see GET /admin/replicas")
            return json_response(next(row for row in rows() if row.name == name), NO_STORE)

        return Resource(post=post, allow=("POST",))

    return [Route(f"/admin/replicas/{{name}}/{sign.value}", resource(sign)) for sign in (Sign.DRAIN, Sign.RESUME)]


def refuse_other_pages(request: Request) -> None:
    """A page of another site can make a browser post to a port of its own machine, where no token may be needed; and
    every browser says then whose page it is."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden(f"a page of {origin[:200]!r} may not change the fleet")
