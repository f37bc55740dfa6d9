"""Why there is no connection to a replica."""

import errno

import pytest

from gateway.serving.dial import dial_reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect …"), "refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 101] Network unreachable"), "connect"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "connect"),
        (OSError("unknown name"), "connect"),
        (OSError(errno.EMFILE, "Too many open files"), "exhausted"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "exhausted"),
    ],
)  # fmt: skip
def test_why_a_dial_failed(error: OSError, reason: str) -> None:
    """Nobody listens, nobody is there, or the gateway itself has run out of what it needs."""
    assert dial_reason(error) == reason
