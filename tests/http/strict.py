"""A good chat in raw bytes, to be spoilt, and the answer to what is refused."""

import json

from tests.raw import Response, chat, connect
from tests.running import Running

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BODY = json.dumps(chat()).encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)


async def refused(harness: Running, raw: bytes) -> Response:
    """The answer to raw bytes, by which the connection ends in order."""
    async with connect(harness.port) as client:
        client.send(raw)
        response = await client.response()
        assert response.complete
        assert response.header("connection") == "close"
        assert await client.ended()
        assert not client.was_reset
        return response
