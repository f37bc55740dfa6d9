"""The public port's paths that are not relayed: the list of models, liveness and readiness."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.api.answers import CLOSE, gateway_error, http_error, json_response
from gateway.core.endpoints import RELAYED
from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot, ReplicaState
from gateway.errors import Draining, GatewayError, ModelNotFound, Unavailable

CREATED = 1_700_000_000
"""OpenAI's `created` of a model. Replicas invent a new one at each call; one that never changes can be cached."""

NOT_RELAYED = ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT")


def public_app(board: Board, draining: Callable[[], bool]) -> Starlette:
    """What uvicorn's own protocol serves for the front. Every answer closes its connection."""
    paths = _Paths(board, draining)
    routes = [
        Route("/", paths.about),
        Route("/healthz", paths.alive),
        Route("/readyz", paths.ready),
        Route("/v1/models", paths.models),
        Route("/v1/models/{model:path}", paths.model),
        *(Route(path.decode(), _post_only, methods=NOT_RELAYED) for path in RELAYED),
    ]
    app = Starlette(routes=routes, exception_handlers={GatewayError: gateway_error, HTTPException: http_error})
    app.router.redirect_slashes = False
    return app


def served_models(fleet: FleetSnapshot) -> list[str]:
    """The union of what the replicas serve, each name once, in order."""
    return sorted(set().union(*(view.models or () for view in fleet.replicas)))


class _Paths:
    def __init__(self, board: Board, draining: Callable[[], bool]) -> None:
        self._board = board
        self._draining = draining

    async def about(self, request: Request) -> Response:
        return PlainTextResponse("vllm-gateway: an OpenAI-compatible API is at /v1\n", headers=CLOSE)

    async def alive(self, request: Request) -> Response:
        return json_response({"status": "alive"}, CLOSE)

    async def ready(self, request: Request) -> Response:
        """200 while a replica can take traffic and the gateway is not draining."""
        if self._draining():
            raise Draining("the gateway is shutting down", retry_after_s=1)
        states = [view.state for view in self._board.current.replicas]
        if ReplicaState.READY not in states:
            raise Unavailable(f"none of {len(states)} replicas can take traffic", retry_after_s=1)
        return json_response({"status": "ready", "replicas": states.count(ReplicaState.READY)}, CLOSE)

    async def models(self, request: Request) -> Response:
        names = served_models(self._board.current)
        return json_response({"object": "list", "data": [_model(name) for name in names]}, CLOSE)

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if name not in served_models(self._board.current):
            raise ModelNotFound(f"no replica serves the model {name!r}; see GET /v1/models", param="model")
        return json_response(_model(name), CLOSE)


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "vllm-gateway"}


async def _post_only(request: Request) -> Response:
    raise HTTPException(405, headers={"allow": "POST"})
