"""A small question to a replica beside a request, on the same connections: the whole answer is waited for."""

import asyncio

from gateway.core.types import Replica
from gateway.errors import ReplicaFailed
from gateway.serving.dial import dial
from gateway.serving.upstream import Pool, UpstreamConnection

MAX_ANSWER_BYTES = 64 * 1024 * 1024


class _Question:
    """Hears the answer to one question; `answer` ends with it."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._pieces: list[bytes] = []
        self._size = 0

    def received(self, upstream: UpstreamConnection) -> None:
        data = upstream.take()
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES:
            upstream.abort()
            self._fail("answered with too much")
        elif upstream.complete:
            assert upstream.head is not None
            status = upstream.head.status
            upstream.release()
            if not self.answer.done():
                self.answer.set_result((status, b"".join(self._pieces)))

    def stirred(self) -> None:
        """Nothing follows from it: the whole has one time-out."""

    def broken(self, upstream: UpstreamConnection, why: str) -> None:
        self._fail(why)

    def _fail(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(ReplicaFailed(f"a replica {why}"))


async def ask(pool: Pool, replica: Replica, path: str, body: bytes, timeout_s: float) -> bytes:
    """The body of the answer with status 200. Raises `ReplicaFailed` for anything else, and when it takes too long."""
    # A new connection: one that was idle may be closed as we write, and a question is not worth a second attempt.
    connection = await dial(pool, replica, timeout_s)
    question = _Question()
    head = f"POST {path} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n".encode()
    connection.send(question, head + pool.lines(replica) + b"\r\n", body)
    try:
        async with asyncio.timeout(timeout_s):
            status, answer = await question.answer
    except TimeoutError:
        raise ReplicaFailed(f"replica {replica.id} did not answer {path} in time") from None
    finally:
        if not question.answer.done() or question.answer.cancelled() or question.answer.exception() is not None:
            connection.abort()
    if status != 200:
        raise ReplicaFailed(f"replica {replica.id} answered {path} with {status}")
    return answer
