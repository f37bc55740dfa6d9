"""Faults on command: what can go wrong with a replica, as data. `Replica` and `Job` do what is said here.

    at once      die · go_silent · freeze · slow · throttle · xid · recover
    on arrival   hang · error · draining · garbage · half_head · endless_head · short_body · close_early
    in answers   stall · cut_after_bytes · bad_chunk · abort · engine_error

Those in answers strike running streams too (at their next token), unless `times` counts requests.
"""

from collections import deque
from typing import Annotated, Literal, get_args

import msgspec

from gateway.emulator.gpu import Cause
from gateway.emulator.refusals import DRAINING, Refusal

AtOnce = Literal["die", "go_silent", "freeze", "slow", "throttle", "xid", "recover"]
OnArrival = Literal["hang", "error", "draining", "garbage", "half_head", "endless_head", "short_body", "close_early"]
InAnswers = Literal["stall", "cut_after_bytes", "bad_chunk", "abort", "engine_error"]

AT_ONCE: frozenset[str] = frozenset(get_args(AtOnce))
IN_ANSWERS: frozenset[str] = frozenset(get_args(InAnswers))
Speed = Annotated[float, msgspec.Meta(gt=0)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One command.

    `times`: only the next so many requests; None: until recover. `after_tokens`: tokens told before the strike.
    `after_bytes`: body bytes before a cut. `reset`: end by TCP reset, not by close. `stay_open`: half_head goes silent
    instead of closing. `everywhere`: strikes GETs such as /health too.
    `factor`, `memory`: shares of the clock's and the memory's speed that are left. `slow` shows on no exporter;
    `throttle` strikes the replica's first GPU, which shows it as its `cause` would. `xid`: what that GPU reports.
    """

    fault: AtOnce | OnArrival | InAnswers
    times: int | None = None
    status: int = 503
    message: str = "The engine is currently busy and cannot accept new requests."
    retry_after_s: int | None = None
    after_tokens: int = 0
    after_bytes: int = 0
    reset: bool = False
    stay_open: bool = False
    everywhere: bool = False
    factor: Speed | None = None
    memory: Speed | None = None
    cause: Cause = "thermal"
    xid: int = 79

    @property
    def speeds(self) -> tuple[float, float]:
        """`factor` and `memory`, or what is usual for the cause."""
        factor, memory = (1.0, 0.74) if self.fault == "throttle" and self.cause == "hbm" else (0.4, 1.0)
        return self.factor or factor, self.memory or memory

    def refusal(self) -> Refusal:
        """What `error` and `draining` answer."""
        if self.fault == "draining":
            return DRAINING
        kinds = {429: "Too Many Requests", 500: "InternalServerError", 503: "Service Unavailable"}
        return Refusal(self.status, kinds.get(self.status, "BadRequestError"), self.message)


class FaultPlan:
    """Which fault the next request meets: those with `times` first, in their order, then the lasting one."""

    def __init__(self) -> None:
        self._counted: deque[Fault] = deque()
        self._lasting: Fault | None = None

    def add(self, fault: Fault) -> None:
        if fault.times is None:
            self._lasting = fault
        else:
            self._counted.extend(fault for _ in range(fault.times))

    def clear(self) -> None:
        self._counted.clear()
        self._lasting = None

    def take(self, *, inference: bool) -> Fault | None:
        """The fault for a request that has just arrived; uses up one of its times."""
        if self._counted and (inference or self._counted[0].everywhere):
            return self._counted.popleft()
        return self._lasting if self._lasting and (inference or self._lasting.everywhere) else None

    @property
    def ongoing(self) -> Fault | None:
        """The lasting fault that strikes answers already under way."""
        return self._lasting if self._lasting and self._lasting.fault in IN_ANSWERS else None


def read_fault(raw: bytes) -> Fault:
    """A fault from its JSON, `{"cut_after_bytes": 100}` being short for the fault of that name; msgspec's errors."""
    fields = msgspec.json.decode(raw, type=dict[str, object])
    if "fault" not in fields and "cut_after_bytes" in fields:
        fields |= {"fault": "cut_after_bytes", "after_bytes": fields.pop("cut_after_bytes")}
    return msgspec.convert(fields, Fault)
