"""The faults that strike a request on arrival: raw bytes, silence, or a refusal instead of an answer."""

import asyncio
from collections.abc import Callable

from gateway.emulator.faults import Fault
from gateway.emulator.wire import Connection, Request, head

_GARBAGE = b"\x16\x03\x01\x02\x00\x01\x00 this is no HTTP \xff\xfe\r\n"
_LINE = b"x-endless: " + b"a" * 1000 + b"\r\n"


def arrive(fault: Fault, connection: Connection, request: Request, ended: Callable[[bool], None]) -> None:
    """Strike. `ended(completed)` is called once, when the client has left or was answered or cut off."""
    once = _Once(ended)
    connection.on_gone = once.aborted
    if fault.fault in ("error", "draining"):
        refusal = fault.refusal()
        once.done(completed=True)
        extra = {} if fault.retry_after_s is None else {"retry-after": str(fault.retry_after_s)}
        connection.respond(refusal.status, refusal.body(), headers=extra)
    elif fault.fault == "endless_head":
        connection.write(b"HTTP/1.1 200 OK\r\n")
        _endless(connection)
    elif fault.fault == "half_head":
        connection.write(head(200, {"content-type": "application/json"})[:-20])
        if not fault.stay_open:
            _end(connection, reset=fault.reset)
    elif fault.fault != "hang":
        connection.write(_RAW[fault.fault])
        _end(connection, reset=fault.reset)


_RAW = {
    "garbage": _GARBAGE,
    "short_body": head(200, {"content-type": "application/json", "content-length": "1000"}) + b'{"id":"cut-sho',
    "close_early": b"",
}


class _Once:
    """Passes on the first ending only."""

    def __init__(self, ended: Callable[[bool], None]) -> None:
        self._ended: Callable[[bool], None] | None = ended

    def done(self, *, completed: bool) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(completed)

    def aborted(self) -> None:
        self.done(completed=False)


def _end(connection: Connection, *, reset: bool) -> None:
    if reset:
        connection.reset()
    else:
        connection.close()


def _endless(connection: Connection) -> None:
    """Header lines for as long as somebody reads them."""
    if not connection.is_open:
        return
    if connection.paused:
        connection.on_drain = lambda: _endless(connection)
        return
    connection.write(_LINE * 16)
    asyncio.get_running_loop().call_soon(_endless, connection)
