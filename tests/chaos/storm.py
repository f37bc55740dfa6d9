"""What happens to the fleet, and when: drawn from a seed, and told by the number of requests begun, not by a clock."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from gateway.emulator.fleet import Fleet
from gateway.emulator.replica import Replica

REPLICAS = 4
MOST_SICK = 2
"""The others are well, so that a request that can be answered will be."""

Draw = Callable[[Random], dict[str, Any]]

FAULTS: dict[str, Draw] = {
    "die": lambda rng: {},
    "go_silent": lambda rng: {},
    "freeze": lambda rng: {},
    "slow": lambda rng: {"factor": rng.choice([0.1, 0.4])},
    "hang": lambda rng: {"everywhere": rng.random() < 0.3},
    "error": lambda rng: {"status": rng.choice([429, 500, 503]), "everywhere": rng.random() < 0.3},
    "draining": lambda rng: {},
    "garbage": lambda rng: {"reset": rng.random() < 0.5, "everywhere": rng.random() < 0.3},
    "half_head": lambda rng: {"stay_open": rng.random() < 0.5},
    "endless_head": lambda rng: {},
    "short_body": lambda rng: {"reset": rng.random() < 0.5, "times": rng.randint(1, 3)},
    "close_early": lambda rng: {"reset": rng.random() < 0.5},
    "stall": lambda rng: {"after_tokens": rng.randint(0, 60)},
    "cut_after_bytes": lambda rng: {"after_bytes": rng.randint(0, 9000), "reset": rng.random() < 0.5},
    "bad_chunk": lambda rng: {"after_tokens": rng.randint(0, 60)},
    "abort": lambda rng: {"after_tokens": rng.randint(0, 60)},
    "engine_error": lambda rng: {"after_tokens": rng.randint(0, 60)},
}
IN_STREAMS = ("stall", "cut_after_bytes", "bad_chunk", "abort", "engine_error", "die", "go_silent")
"""Drawn three times as often: what the answers under way feel."""
LEAVES_HANGING = frozenset({"hang", "stall", "half_head"})
"""What is not undone for requests already struck: such a replica only comes back by being started anew."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens to one replica: a fault; `recover`; or `restart`, which ends what ran there."""

    replica: int
    what: str
    fields: tuple[tuple[str, Any], ...] = ()

    def happen(self, fleet: Fleet) -> None:
        replica = fleet.replica(self.replica)
        if self.what == "restart":
            restart(replica)
        else:
            replica.fault(self.what, **dict(self.fields))

    def __str__(self) -> str:
        return f"r{self.replica} {self.what} {dict(self.fields) or ''}".rstrip()


def restart(replica: Replica) -> None:
    """As an operator does: all connections break, then the port accepts again."""
    replica.fault("die")
    replica.recover()


def storm(rng: Random, steps: int) -> list[Step]:
    """Faults and recoveries in turn; never more than `MOST_SICK` replicas are struck at a time."""
    kinds = list(FAULTS)
    weights = [3 if kind in IN_STREAMS else 1 for kind in kinds]
    sick: dict[int, str] = {}
    found = []
    for _ in range(steps):
        if len(sick) < MOST_SICK and (not sick or rng.random() < 0.6):
            replica = rng.choice([index for index in range(REPLICAS) if index not in sick])
            kind = sick[replica] = rng.choices(kinds, weights)[0]
            found.append(Step(replica, kind, tuple(FAULTS[kind](rng).items())))
        else:
            replica = rng.choice(list(sick))
            hangs = sick.pop(replica) in LEAVES_HANGING
            found.append(Step(replica, "restart" if hangs or rng.random() < 0.5 else "recover"))
    return found
