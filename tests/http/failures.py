"""What a replica may do wrong, and limits that let a test see it soon."""

from collections.abc import Callable

from gateway.config import Resilience
from gateway.config.keys import Probe
from tests.peers import Call

RARELY = Probe(interval_s=3600.0)
"""After the first look no probe changes a replica's state in mid-test."""
CALM = Resilience(probe=RARELY)
IMPATIENT = Resilience(probe=RARELY, first_token_timeout_s=0.3, idle_timeout_s=0.3)
BUSY = b'{"error":{"message":"busy","type":"Service Unavailable","param":null,"code":503}}'
ABORT = b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"abort"}]}\n\n'
BROKEN = b'data: {"error":{"message":"EngineCore died","type":"InternalServerError","param":null,"code":500}}\n\n'
WRONG = b'data: {"error":{"message":"Grammar error","type":"BadRequestError","param":null,"code":400}}\n\n'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'


def sends(raw: bytes, *, close: bool = True, reset: bool = False) -> Callable[[Call], None]:
    def act(call: Call) -> None:
        call.send(raw)
        if reset:
            call.reset()
        elif close:
            call.close()

    return act
