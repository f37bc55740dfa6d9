"""The end of an answer on the public port's cold paths: the connection closes, after reading what still comes."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.answers import error_response
from gateway.errors import UploadTimeout

MAX_REST_BYTES = 64 * 1024 * 1024


class Closing:
    """Sends `connection: close` with every answer, so that a pooled client's next request comes in by the front again.

    What the client still uploads is read first, within bounds: closing a socket with unread bytes resets it, and the
    client would see that instead of the answer (RFC 9112, 9.6). An upload that takes longer than `read_timeout_s`: 408.
    Who waits for `100 Continue` has sent nothing yet. The application gets no body: none of the cold paths takes one.
    """

    def __init__(self, app: ASGIApp, *, read_timeout_s: float) -> None:
        self._app = app
        self._read_timeout_s = read_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        app = self._app
        with anyio.move_on_after(self._read_timeout_s) as reading:
            if _uploads(scope):
                await _read_rest(receive)
        if reading.cancelled_caught:
            app = error_response(UploadTimeout("the request did not arrive in time"))
        await app(scope, receive, closing)


def _uploads(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"expect" not in names and bool(names & {b"content-length", b"transfer-encoding"})


async def _read_rest(receive: Receive) -> None:
    read = 0
    while read <= MAX_REST_BYTES:
        message = await receive()
        read += len(message.get("body", b""))
        if not message.get("more_body", False):  # also when the client has left
            return
