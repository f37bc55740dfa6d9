"""A new connection to a replica, and the reason why there is none."""

import asyncio
import errno
import logging
import re

from gateway.core.types import Replica
from gateway.errors import ReplicaFailed
from gateway.serving.upstream import Pool, UpstreamConnection

logger = logging.getLogger(__name__)

_OUR_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


def dial_reason(error: OSError) -> str:
    """Why a dial failed: `refused` (nobody listens), `exhausted` (the gateway has no descriptor or port left), or
    `connect`. A name with several addresses has failed by as many errors, which asyncio and uvloop put into words."""
    errors = {error.errno} if error.errno else {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}
    if errors == {errno.ECONNREFUSED}:
        return "refused"
    return "exhausted" if errors & _OUR_OWN else "connect"


class DialFailed(ReplicaFailed):
    """No connection; `reason` is one of `gateway_retries_total`."""

    def __init__(self, replica: Replica, why: str, reason: str) -> None:
        super().__init__(f"replica {replica.id} {why}")
        self.reason = reason


async def dial(pool: Pool, replica: Replica, timeout_s: float) -> UpstreamConnection:
    """A connection that has carried nothing yet. Raises `DialFailed`, and nothing else."""
    try:
        async with asyncio.timeout(timeout_s):
            return await pool.dial(replica)
    except TimeoutError:
        raise DialFailed(replica, "did not accept a connection in time", "connect") from None
    except OSError as error:
        why = f"cannot be reached: {error.strerror or error}"
        raise DialFailed(replica, why, dial_reason(error)) from error
    except Exception as error:  # nothing else would tell the client, and no deadline runs meanwhile
        logger.exception("dialling %s failed in a way that was not foreseen", replica.id)
        raise DialFailed(replica, f"cannot be reached: {error}", "connect") from error
