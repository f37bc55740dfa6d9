"""Answers of the Responses API that a replica has kept (`store`): only that one can tell of them, and nothing in their
ids says which it is. So every replica is asked, in the order of the fleet, until one knows the id."""

import ssl
from collections.abc import AsyncIterator

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.core.fleet import Board
from gateway.core.sse import encode
from gateway.core.types import Replica
from gateway.errors import NotFound, ReplicaFailed, openai_body

_UNKNOWN = 404


class StoredResponses:
    """`GET /v1/responses/{id}` and `POST /v1/responses/{id}/cancel`, as vLLM serves them. They are rare: each asks on
    connections of its own."""

    def __init__(self, board: Board, tls: ssl.SSLContext, *, connect_timeout_s: float, idle_timeout_s: float) -> None:
        self._board = board
        self._tls = tls
        self._timeout = httpx.Timeout(idle_timeout_s, connect=connect_timeout_s)

    async def relay(self, request: Request) -> Response:
        """The answer of the first replica that knows the id. Raises `NotFound` if none does, and `ReplicaFailed` if
        none does and one of them could not be asked."""
        failed: str | None = None
        for view in self._board.current.replicas:
            http = httpx.AsyncClient(verify=self._tls, timeout=self._timeout, trust_env=False)
            try:
                answer = await http.send(_question(http, view.replica, request), stream=True)
            except httpx.HTTPError as error:
                failed = f"replica {view.id} could not be asked: {type(error).__name__}"
                await http.aclose()
                continue
            if answer.status_code == _UNKNOWN:
                await answer.aclose()
                await http.aclose()
                continue
            kind = {"content-type": answer.headers.get("content-type", "application/json")}
            return StreamingResponse(_body(http, answer, view.replica), answer.status_code, kind)
        if failed is not None:
            raise ReplicaFailed(failed)
        raise NotFound(f"no replica has kept a response {request.path_params['id']!r}", param="response_id")


def _question(http: httpx.AsyncClient, replica: Replica, request: Request) -> httpx.Request:
    """The client's, with the replica's own key and without the client's headers."""
    url = httpx.URL(replica.url).copy_with(raw_path=_target(replica, request))
    headers = {"authorization": f"Bearer {replica.api_key}"} if replica.api_key else {}
    return http.build_request(request.method, url, headers=headers | {"accept-encoding": "identity"})


def _target(replica: Replica, request: Request) -> bytes:
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


async def _body(http: httpx.AsyncClient, answer: httpx.Response, replica: Replica) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx.HTTPError as error:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise
        told = openai_body(ReplicaFailed(f"replica {replica.id} broke off: {type(error).__name__}"))
        yield encode(b'{"type":"error",%b' % told[1:], "error")
    finally:
        await answer.aclose()
        await http.aclose()
