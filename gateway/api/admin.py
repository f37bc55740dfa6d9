"""The admin port: metrics for Prometheus, the dashboard, the fleet and the config as they are, decisions explained."""

import hmac
from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.answers import NO_STORE, Resource, application, body_of, error_response, json_response
from gateway.api.dashboard import DashboardState
from gateway.api.draining import Command, drain_routes, nobody
from gateway.api.members import Members, member_route
from gateway.api.page import load_page
from gateway.core.explain import Asked, Explanation
from gateway.errors import Unauthorized

PROMETHEUS_TEXT = "text/plain; version=1.0.0; charset=utf-8"

BY_ADDRESS = frozenset({"/", "/dashboard"})
"""Paths that a person opens, and a browser cannot add a header to: there, `?token=` does too."""


def admin_app(
    *,
    render_metrics: Callable[[], bytes],
    state: Callable[[], DashboardState],
    config: Callable[[], Mapping[str, object]],
    explain: Callable[[Asked], Explanation],
    max_body_bytes: int,
    token: str | None,
    command: Command = nobody,
    members: Members | None = None,
) -> ASGIApp:
    """The admin port's application. With a `token`, every path asks for it. `config` gives no secrets."""
    page = load_page()

    def root(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/dashboard{query}")

    def metrics(request: Request) -> Response:
        return Response(render_metrics(), headers={"content-type": PROMETHEUS_TEXT})

    app = application(
        [
            Route("/", Resource(root)),
            Route("/metrics", Resource(metrics)),
            Route("/dashboard", Resource(lambda _: HTMLResponse(page.html, headers=page.headers))),
            Route("/dashboard/state.json", Resource(lambda _: json_response(state(), NO_STORE))),
            member_route(lambda: state().replicas, members),
            *drain_routes(command, lambda: state().replicas),
            Route("/admin/config", Resource(lambda _: json_response(config(), NO_STORE))),
            Route("/admin/explain", Resource(post=_explained(explain, max_body_bytes), allow=("POST",))),
        ]
    )
    return app if token is None else _Guard(app, token)


def _explained(explain: Callable[[Asked], Explanation], limit: int) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        asked = Asked(
            await body_of(request, limit),
            request.query_params.get("path"),
            request.headers.get("content-type", "application/json").encode("latin-1"),
            request.headers.get("x-session-id"),
        )
        return json_response(explain(asked), NO_STORE)

    return answer


class _Guard:
    """Lets nobody pass without the token: as `Authorization: Bearer`, or as `?token=` where a person opens a page."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._knows(scope):
            error = Unauthorized("this port needs admin.token: `Authorization: Bearer …`, or /dashboard?token=…")
            await error_response(error, {"www-authenticate": "Bearer"})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        by_header = scheme.lower() == "bearer" and self._matches(given.strip())
        return by_header or (scope["path"] in BY_ADDRESS and self._matches(_in_query(scope)))

    def _matches(self, given: str) -> bool:
        # Header values arrive as Latin-1 characters, whatever bytes they were.
        # An empty token, say of an empty variable, lets nobody in.
        return given != "" and hmac.compare_digest(given.encode("latin-1", "replace"), self._token)


def _in_query(scope: Scope) -> str:
    token = QueryParams(scope["query_string"]).get("token", "")
    return token.encode().decode("latin-1")
