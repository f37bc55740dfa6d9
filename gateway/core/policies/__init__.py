"""The registry: policy names, as the config knows them, and how each is made."""

from collections.abc import Callable, Mapping

from gateway.core.policies.base import Policy
from gateway.core.policies.least_load import LeastLoad
from gateway.core.policies.power_of_two import PowerOfTwo
from gateway.core.policies.prefix import Prefix
from gateway.core.policies.random import Random
from gateway.core.policies.round_robin import RoundRobin
from gateway.core.policies.session import Session
from gateway.core.policies.system_prompt import SystemPrompt

POLICIES: Mapping[str, Callable[..., Policy]] = {
    policy.name: policy for policy in (Prefix, SystemPrompt, Session, LeastLoad, PowerOfTwo, RoundRobin, Random)
}

__all__ = ["POLICIES", "Policy"]
