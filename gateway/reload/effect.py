"""What the reloadable part of a config does in a running gateway."""

from gateway.config import Config, ConfigErrors, replica_entry
from gateway.core.hedging import Hedging
from gateway.core.policies import POLICIES, Policy
from gateway.errors import BadRequest
from gateway.reload.discoverer import Discoverer
from gateway.reload.roster import Roster
from gateway.serving.desk import Desk, Limits


def policy_of(config: Config) -> Policy:
    return POLICIES[config.routing.policy](**config.routing.parameters)


def limits_of(config: Config) -> Limits:
    resilience = config.resilience
    return Limits(
        connect_timeout_s=resilience.connect_timeout_s,
        first_token_timeout_s=resilience.first_token_timeout_s,
        idle_timeout_s=resilience.idle_timeout_s,
        request_read_timeout_s=config.server.request_read_timeout_s,
        max_attempts=resilience.max_attempts,
        max_body_bytes=config.server.max_body_bytes,
        resume=resilience.resume,
        classes=frozenset(config.admission.classes),
    )


def take_effect(old: Config, new: Config, desk: Desk, roster: Roster, discoverer: Discoverer) -> None:
    """Each request sees all of it or none: nothing yields in here, and a request reads each part once.

    A policy that is not changed keeps what it has learned.
    """
    if new.routing != old.routing:
        desk.policy = policy_of(new)
    desk.limits = limits_of(new)
    desk.aliases = new.models.aliases
    if new.resilience.hedge_after_s != old.resilience.hedge_after_s:
        desk.hedging = Hedging(new.resilience.hedge_after_s)
    if new.replicas != old.replicas:
        roster.configure(entry.replica() for entry in new.replicas)
    discoverer.configure(new.discovery)


def add_entry(roster: Roster, body: bytes) -> str:
    """An entry of `replicas` in JSON joins; its name. Raises `BadRequest`, which tells all errors, or `Conflict`."""
    try:
        replica = replica_entry(body).replica()
    except ConfigErrors as errors:
        raise BadRequest("\n".join(errors.errors)) from None
    roster.add(replica)
    return replica.id
