"""Who is in the fleet, and the two requests that change it: `POST` and `DELETE /admin/replicas`."""

from collections.abc import Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.answers import NO_STORE, Resource, body_of, json_response
from gateway.api.dashboard import ReplicaRow
from gateway.api.draining import refuse_other_pages
from gateway.errors import BadRequest

MAX_ENTRY_BYTES = 64 * 1024


class Members(NamedTuple):
    """What may be done to the fleet. Both raise errors that have a status.

    `add`: takes an entry of `replicas` in JSON, gives the replica's name. `remove`: takes the name.
    """

    add: Callable[[bytes], str]
    remove: Callable[[str], None]


def member_route(rows: Callable[[], list[ReplicaRow]], members: Members | None) -> Route:
    """The path. Without `members` it can only be read."""

    def listed(_: Request) -> Response:
        return json_response({"replicas": rows()}, NO_STORE)

    if members is None:
        return Route("/admin/replicas", Resource(listed))

    def row(name: str, status: int) -> Response:
        return json_response(next((row for row in rows() if row.name == name), None), NO_STORE, status)

    async def post(request: Request) -> Response:
        refuse_other_pages(request)
        return row(members.add(await body_of(request, MAX_ENTRY_BYTES)), 201)

    async def delete(request: Request) -> Response:
        refuse_other_pages(request)
        name = request.query_params.get("name")
        if not name:
            raise BadRequest("say which: DELETE /admin/replicas?name=NAME", param="name")
        members.remove(name)
        return row(name, 202)

    allow = ("GET", "HEAD", "POST", "DELETE")
    return Route("/admin/replicas", Resource(listed, post=post, delete=delete, allow=allow))
