"""Who may run in the lab."""

import pytest

from gateway.core.policies import POLICIES
from gateway.lab.entrants import ENTRANTS, PEERS
from gateway.lab.peers import Seen


def test_bounded_hash_is_our_own_rule_for_system_prompts() -> None:
    assert ENTRANTS["bounded_hash"].make(Seen()).name == "system_prompt"


def test_every_policy_of_the_gateway_can_be_named() -> None:
    assert list(ENTRANTS) == [*POLICIES, *PEERS]
    assert {entrant.make(Seen()).name for name, entrant in ENTRANTS.items() if name in POLICIES} == set(POLICIES)


@pytest.mark.parametrize("name", ENTRANTS)
def test_a_name_is_one_name(name: str) -> None:
    assert ENTRANTS[name].name == name
