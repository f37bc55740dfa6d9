"""Who may run in the lab: the gateway's own policies and the peers' rules, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.core.policies import POLICIES, Policy
from gateway.core.policies.system_prompt import SystemPrompt
from gateway.lab.peers import Dynamo, Gie, Seen, Sglang, UncachedInFlight
from gateway.lab.setup import SCRAPE_S


@dataclass(frozen=True, slots=True)
class Entrant:
    """A policy as the lab runs it. `scrape_s`: seconds between two looks at the engines' metrics.

    `wants_held`: keep `Seen.held` for it, which costs time.
    """

    name: str
    make: Callable[[Seen], Policy]
    scrape_s: float = SCRAPE_S
    wants_held: bool = False


def _ours(name: str) -> Entrant:
    make = POLICIES[name]
    return Entrant(name, lambda _seen: make())


PEERS: Mapping[str, Entrant] = {
    entrant.name: entrant
    for entrant in (
        Entrant(Sglang.name, Sglang),
        Entrant(Gie.name, Gie, 0.05),
        Entrant(Dynamo.name, Dynamo, wants_held=True),
        Entrant(UncachedInFlight.name, UncachedInFlight),
        # Consistent hashing with bounded loads, as HAProxy and Envoy offer it, with the system prompt as key: ours.
        Entrant("bounded_hash", lambda _seen: SystemPrompt()),
    )
}

ENTRANTS: Mapping[str, Entrant] = {**{name: _ours(name) for name in POLICIES}, **PEERS}
"""All policies that can be named, ours first."""
