"""One inference request from submission to its last byte: engine progress in, events out, faults struck where told."""

from collections.abc import Callable
from functools import partial

from gateway.emulator import tokens
from gateway.emulator.driver import Driver
from gateway.emulator.engine import EngineRequest
from gateway.emulator.faults import Fault
from gateway.emulator.metrics import Metrics
from gateway.emulator.refusals import ENGINE_DEAD
from gateway.emulator.shapes import Shape
from gateway.emulator.wire import Connection, head

EVENT_STREAM = "text/event-stream; charset=utf-8"


class Job:
    """Ends once: completed, or aborted because the client is gone or a fault struck. `ended(completed)` tells."""

    def __init__(
        self,
        connection: Connection,
        shape: Shape,
        driver: Driver,
        metrics: Metrics,
        fault: Callable[[], Fault | None],
        ended: Callable[[bool], None],
    ) -> None:
        self.shape = shape
        self._connection = connection
        self._driver = driver
        self._metrics = metrics
        self._fault = fault
        self._ended = ended
        self._open = set(range(len(shape.answers)))
        self._pending = [0] * len(shape.answers)
        self._told_bytes = 0
        self._marks = [driver.now()] * len(shape.answers)
        self._silent = False
        self._over = False

    def start(self, block_tokens: int) -> None:
        """The head goes out at once; the answers when the engine has them."""
        connection, ask = self._connection, self.shape.ask
        connection.on_gone, connection.on_drain = self._gone, self._flush
        if ask.stream:
            connection.start(EVENT_STREAM, {"x-request-id": self.shape.ident})
            self._tell(self.shape.opening())
        for index, answer in enumerate(self.shape.answers):
            prompt = self.shape.prompt_of(index)
            # The answer's blocks are cached too: the next turn's prompt begins with this prompt and this answer.
            hashes = tokens.blocks((*prompt, *answer.ids), block_tokens, f"{ask.model}\0{ask.salt}")
            full = len(prompt) // block_tokens
            request = EngineRequest(
                self._id(index), hashes[:full], len(prompt), len(answer.ids), ask.priority, hashes[full:]
            )
            self._driver.submit(request, partial(self._progress, index))

    def _id(self, index: int) -> str:
        return f"{id(self)}-{index}"

    def _progress(self, index: int, count: int, cached: int, finished: bool) -> None:
        first = self.shape.sent[index] + self._pending[index] == 0
        if first:
            self.shape.cached_tokens += cached
        self._measure(index, count, first=first)
        self._pending[index] += count
        if not self._connection.paused or not self.shape.ask.stream:
            self._flush()

    def _measure(self, index: int, count: int, *, first: bool) -> None:
        now = self._driver.now()
        waited, self._marks[index] = now - self._marks[index], now
        if first:
            self._metrics.first_token(len(self.shape.prompt_of(index)), waited)
        self._metrics.tokens(count, None if first else waited)

    def _flush(self) -> None:
        """Tell what has come since the last time, as far as a fault lets it; a slow reader gets it merged."""
        for index, count in enumerate(self._pending):
            if not count or self._over or self._silent:
                continue
            fault = self._fault()
            strikes = fault is not None and fault.fault != "cut_after_bytes"
            if fault is not None and strikes:
                count = min(count, max(0, fault.after_tokens - sum(self.shape.sent)))
            if count:
                self._told(index, count)
            if fault is not None and strikes and self._pending[index] and not self._over:
                self._strike(fault)
        if not self._open and not self._over:
            self._complete()

    def _told(self, index: int, count: int) -> None:
        self._pending[index] -= count
        event = self.shape.tokens(index, count) if self.shape.ask.stream else self._note(index, count)
        answer = self.shape.answers[index]
        if self.shape.sent[index] >= len(answer.ids):
            self._open.discard(index)
            self._metrics.success(answer.finish_reason)
        if not self._open and self.shape.ask.stream:
            self._complete(event)
        else:
            self._tell(event)

    def _note(self, index: int, count: int) -> bytes:
        self.shape.sent[index] += count
        return b""

    def _tell(self, payload: bytes) -> None:
        if payload and not self._cut(payload):
            self._told_bytes += len(payload)
            self._connection.chunk(payload)

    def _cut(self, payload: bytes) -> bool:
        """Whether `cut_after_bytes` falls into this payload; then a part has gone out and the connection ends."""
        fault = self._fault()
        if fault is None or fault.fault != "cut_after_bytes" or self._told_bytes + len(payload) <= fault.after_bytes:
            return False
        framed = self._connection.frame(payload)
        start = framed.index(payload) if payload else 0
        self._hang_up(framed[: start + fault.after_bytes - self._told_bytes], reset=fault.reset)
        return True

    def _complete(self, last: bytes = b"") -> None:
        if self.shape.ask.stream:
            payload = last + self.shape.closing()
            if not self._cut(payload):
                self._end(completed=True)
                self._connection.end(payload)
            return
        body = self.shape.whole()
        fault = self._fault()
        if fault is not None and fault.fault == "cut_after_bytes" and fault.after_bytes < len(body):
            self._hang_up(self._head(len(body)) + body[: fault.after_bytes], reset=fault.reset)
            return
        self._end(completed=True)
        self._connection.respond(200, body, self.shape.content_type, self._headers())

    def _strike(self, fault: Fault) -> None:
        """The fault's own end of this answer. A stalled one stays open until its client leaves."""
        stream = self.shape.ask.stream
        if fault.fault == "stall":
            self._silent = True
        elif fault.fault == "bad_chunk":
            self._hang_up(b"zz\r\nnot a chunk\r\n" if stream else self._head(-1), reset=fault.reset)
        elif fault.fault == "abort":
            unfinished = self.shape.cut()
            self._complete(b"".join(self.shape.tokens(index, 0) for index in unfinished) if stream else b"")
        elif fault.fault == "engine_error":
            self._end(completed=False)
            if stream:
                self._connection.end(self.shape.failed(ENGINE_DEAD))
            else:
                self._connection.respond(500, ENGINE_DEAD.body(), headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return {"vary": "Origin", "x-request-id": self.shape.ident}

    def _head(self, length: int) -> bytes:
        return head(200, {"content-length": str(length), "content-type": self.shape.content_type} | self._headers())

    def _hang_up(self, last: bytes, *, reset: bool) -> None:
        self._end(completed=False)
        self._connection.write(last)
        if reset:
            self._connection.reset()
        else:
            self._connection.close()

    def _gone(self) -> None:
        self._end(completed=False)

    def _end(self, *, completed: bool) -> None:
        if self._over:
            return
        self._over = True
        self._connection.on_gone = self._connection.on_drain = None
        for index in range(len(self.shape.answers)):
            self._driver.abort(self._id(index))
        self._ended(completed)
