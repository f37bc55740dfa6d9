"""Answers in the shapes that clients know: JSON, and OpenAI's errors; and the one kind of endpoint that gives them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from gateway.errors import BadRequest, GatewayError, MethodNotAllowed, NotFound, openai_body
from gateway.serving.http import body_too_large

NO_STORE = {"cache-control": "no-store"}


def json_response(value: object, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    body = msgspec.json.encode(value)
    return Response(body, status, dict(headers or {}), media_type="application/json")


def error_response(error: GatewayError, headers: Mapping[str, str] | None = None) -> Response:
    retry = {"retry-after": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    return Response(openai_body(error), error.status, {**(headers or {}), **retry}, media_type="application/json")


async def body_of(request: Request, limit: int) -> bytes:
    """The whole body. Raises `BodyTooLarge` as soon as it is longer than `limit` bytes."""
    pieces, size = [], 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise body_too_large(size, limit)
    return b"".join(pieces)


class Resource:
    """An ASGI endpoint: GET and HEAD get what `get` gives, or GET what `fetch` finds elsewhere, POST and DELETE what
    `post` and `delete` do, OPTIONS the methods in `allow`.

    The rest is refused. Without either, it stands for a path whose requests are answered elsewhere.
    """

    def __init__(
        self,
        get: Callable[[Request], Response] | None = None,
        *,
        fetch: Callable[[Request], Awaitable[Response]] | None = None,
        post: Callable[[Request], Awaitable[Response]] | None = None,
        delete: Callable[[Request], Awaitable[Response]] | None = None,
        allow: Sequence[str] = ("GET", "HEAD"),
    ) -> None:
        self._get = get
        self._doers = {"GET": fetch, "POST": post, "DELETE": delete}
        self._allow = {"allow": ", ".join((*allow, "OPTIONS"))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        do = self._doers.get(request.method)
        answer = await do(request) if do else self._answer(request)
        await answer(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=self._allow)
        if self._get is not None and request.method in ("GET", "HEAD"):
            return self._get(request)
        return error_response(MethodNotAllowed(f"{request.method} is not allowed at {request.url.path}"), self._allow)


def application(routes: Sequence[BaseRoute]) -> Starlette:
    """A Starlette application whose every error has OpenAI's shape, and which redirects nobody."""
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        GatewayError: _gateway_error,
        HTTPException: _http_error,
        ClientDisconnect: _left,
        Exception: _unforeseen,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


async def _gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette's router refuses: unknown paths."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(NotFound(f"there is nothing at {request.url.path}"))
    return error_response(BadRequest(str(error.detail)), error.headers)


async def _left(request: Request, error: Exception) -> Response:
    """The client has gone in mid-upload: nobody is there to be told."""
    return Response(status_code=400)


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Starlette raises the error again afterwards, and uvicorn logs it; its text is not for the client."""
    return error_response(GatewayError("the gateway failed at this; its log tells more"))
