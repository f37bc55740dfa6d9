"""The end of an answer on the public port's cold paths: the connection closes, after reading what still comes."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_REST_BYTES = 64 * 1024 * 1024
REST_TIMEOUT_S = 5.0


class Closing:
    """Sends `connection: close` with every answer, so that a pooled client's next request comes in by the front again.

    What the client still uploads is read first, within bounds: closing a socket with unread bytes resets it, and the
    client would see that instead of the answer (RFC 9112, 9.6). Who waits for `100 Continue` has sent nothing yet.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                if _uploads(scope):
                    await _read_rest(receive)
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, closing)


def _uploads(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"expect" not in names and bool(names & {b"content-length", b"transfer-encoding"})


async def _read_rest(receive: Receive) -> None:
    read = 0
    with anyio.move_on_after(REST_TIMEOUT_S):
        while read <= MAX_REST_BYTES:
            message = await receive()
            read += len(message.get("body", b""))
            if not message.get("more_body", False):  # also when the client has left
                return
