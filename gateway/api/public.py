"""The public port's paths that are not relayed: the list of models, liveness and readiness."""

from collections.abc import Callable, Mapping, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.api.answers import NO_STORE, Resource, application, json_response
from gateway.api.closing import Closing
from gateway.api.stored import StoredResponses
from gateway.core.aliases import NO_ALIASES
from gateway.core.endpoints import RELAYED
from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot, ReplicaState, ReplicaView
from gateway.errors import Draining, ModelNotFound, NotFound, Unavailable

CREATED = 1_700_000_000
"""OpenAI's `created` of a model. Replicas invent a new one at each call; one that never changes can be cached."""

PREFLIGHT_MAX_AGE_S = 7200
"""How long a browser may remember a preflight (Chromium's own limit): each costs it a round trip and a connection."""

ON_ADMIN_PORT = "at /dashboard on the admin port, which is admin.port in the config"


def public_app(
    board: Board,
    draining: Callable[[], bool],
    *,
    dashboard: str = ON_ADMIN_PORT,
    aliases: Callable[[], Mapping[str, str]] = lambda: NO_ALIASES,
    read_timeout_s: float = 30.0,
    cors_origins: Sequence[str] = (),
    stored: StoredResponses | None = None,
) -> ASGIApp:
    """What uvicorn's own protocol serves for the front. Every answer closes its connection.

    `dashboard`: where people find it; a URL if they can reach one. `aliases`: public name -> name that replicas serve.
    `read_timeout_s`: how long a request's body, which nobody wants, may take to come; beyond it: 408.
    `cors_origins`: whose pages may read the answers; their preflights are answered here, for relayed paths too.
    `stored`: who asks for responses that replicas have kept; without it there are none.
    """
    paths = _Paths(board, draining, dashboard, aliases)
    routes = [
        Route("/", Resource(paths.about)),
        Route("/healthz", Resource(paths.alive)),
        Route("/readyz", Resource(paths.ready)),
        Route("/health", Resource(paths.ready)),  # where tools that were made for vLLM ask
        Route("/v1/models", Resource(paths.models)),
        Route("/v1/models/{model:path}", Resource(paths.model)),
        *(Route(path.decode(), Resource(allow=("POST",))) for path in RELAYED),
    ]
    app: ASGIApp = application(routes + (_stored(stored) if stored is not None else []))
    if cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=cors_origins,
            allow_methods=("GET", "HEAD", "POST", "OPTIONS"),
            allow_headers=("*",),
            expose_headers=("*",),
            max_age=PREFLIGHT_MAX_AGE_S,
        )
    return Closing(app, read_timeout_s=read_timeout_s)


def _stored(stored: StoredResponses) -> list[Route]:
    return [
        Route("/v1/responses/{id}", Resource(fetch=stored.relay, allow=("GET",))),
        Route("/v1/responses/{id}/cancel", Resource(post=stored.relay, allow=("POST",))),
    ]


def served_models(fleet: FleetSnapshot, aliases: Mapping[str, str] = NO_ALIASES) -> dict[str, str]:
    """What may be asked for, in order, each with the name that replicas serve it by: the union of what they list, and
    the aliases of that."""
    served = set().union(*(view.models or () for view in fleet.replicas))
    known = {name: name for name in served} | {name: root for name, root in aliases.items() if root in served}
    return dict(sorted(known.items()))


def takes_traffic(view: ReplicaView) -> bool:
    """Whether requests may count on this replica: it is ready, or it answered before and failed only lately, or warms.

    Else one reset connection, or a warm-up, would take a gateway with one replica out of its own load balancer.
    """
    able = view.state in (ReplicaState.SUSPECT, ReplicaState.WARMING) and view.seen_at is not None
    return able or view.state is ReplicaState.READY


class _Paths:
    def __init__(
        self, board: Board, draining: Callable[[], bool], dashboard: str, aliases: Callable[[], Mapping[str, str]]
    ) -> None:
        self._board = board
        self._draining = draining
        self._dashboard = dashboard
        self._aliases = aliases

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
        models = served_models(self._board.current, self._aliases())
        parents = _parents(self._board.current)
        cards = [_model(name, root, parents.get(root)) for name, root in models.items()]
        return json_response({"object": "list", "data": cards})

    def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if not name:
            raise NotFound(f"there is nothing at {request.url.path}")
        root = served_models(self._board.current, self._aliases()).get(name)
        if root is None:
            raise ModelNotFound(f"no replica serves the model {name!r}; see GET /v1/models", param="model")
        return json_response(_model(name, root, _parents(self._board.current).get(root)))


def _parents(fleet: FleetSnapshot) -> dict[str, str]:
    """Adapter -> its base, as the replicas tell."""
    return dict(pair for view in fleet.replicas for pair in view.parents)


def _model(name: str, root: str, parent: str | None) -> dict[str, object]:
    """OpenAI's model with vLLM's fields: `root` is what an alias stands for (there: a path on the replica's disk),
    `parent` the base of a LoRA adapter."""
    card = {"id": name, "object": "model", "created": CREATED, "owned_by": "vllm-gateway"}
    return {**card, "root": root, "parent": parent}
