"""The admin port: metrics for Prometheus, the dashboard and its figures, the fleet and the config as they are."""

import hmac
from collections.abc import Callable, Mapping
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.answers import error_response, gateway_error, http_error, json_response
from gateway.api.dashboard import DashboardState
from gateway.errors import GatewayError, Unauthorized

PROMETHEUS_TEXT = "text/plain; version=1.0.0; charset=utf-8"
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


def admin_app(
    *,
    render_metrics: Callable[[], bytes],
    state: Callable[[], DashboardState],
    config: Callable[[], Mapping[str, object]],
    token: str | None,
) -> ASGIApp:
    """The admin port's application. With a `token`, everything but the dashboard's empty page asks for it."""
    page = (files("gateway.api") / "static" / "dashboard.html").read_text(encoding="utf-8")

    async def metrics(request: Request) -> Response:
        return Response(render_metrics(), media_type=PROMETHEUS_TEXT)

    async def dashboard(request: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY, "cache-control": "no-store"})

    async def figures(request: Request) -> Response:
        return json_response(state(), {"cache-control": "no-store"})

    async def replicas(request: Request) -> Response:
        return json_response({"replicas": state().replicas})

    async def effective(request: Request) -> Response:
        return json_response(config())

    async def root(request: Request) -> Response:
        return RedirectResponse("/dashboard")

    app = Starlette(
        routes=[
            Route("/", root),
            Route("/metrics", metrics),
            Route("/dashboard", dashboard),
            Route("/dashboard/state.json", figures),
            Route("/admin/replicas", replicas),
            Route("/admin/config", effective),
        ],
        exception_handlers={GatewayError: gateway_error, HTTPException: http_error},
    )
    return app if token is None else _Guard(app, token)


class _Guard:
    """Asks for `Authorization: Bearer TOKEN` on all paths but the dashboard's page, which holds no figures itself."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/dashboard":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                error = Unauthorized("this port needs `Authorization: Bearer` with admin.token")
                await error_response(error, {"www-authenticate": "Bearer"})(scope, receive, send)
                return
        await self._app(scope, receive, send)
