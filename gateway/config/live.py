"""Which keys a running gateway takes over from a changed config, and which of the others are changed, too."""

from collections.abc import Iterator

import msgspec

from gateway.config.keys import Config, Section

LIVE = frozenset(
    {
        "replicas",
        "discovery",
        "routing",
        "tenants",
        "models",
        "admission.classes",
        "resilience.connect_timeout_s",
        "resilience.first_token_timeout_s",
        "resilience.idle_timeout_s",
        "resilience.max_attempts",
        "resilience.resume",
        "resilience.hedge_after_s",
        "server.max_body_bytes",
        "server.request_read_timeout_s",
    }
)
"""Keys, or whole sections, that are reloaded. `docs/operations.md` lists the same."""


def merged(running: Config, changed: Config) -> tuple[Config, list[str]]:
    """The running config with the live keys of the changed one; and the other keys that differ: they need a restart."""
    values = {info.name: _live(running, changed, info.name, info.name) for info in msgspec.structs.fields(Config)}
    new = msgspec.structs.replace(running, **values)
    return new, sorted(_differing(new, changed, ""))


def _live(running: Section, changed: Section, name: str, path: str) -> object:
    old, new = getattr(running, name), getattr(changed, name)
    if path in LIVE:
        return new
    if not isinstance(old, Section) or not any(live.startswith(f"{path}.") for live in LIVE):
        return old
    inner = {info.name: _live(old, new, info.name, f"{path}.{info.name}") for info in msgspec.structs.fields(type(old))}
    return msgspec.structs.replace(old, **inner)


def _differing(one: Section, other: Section, path: str) -> Iterator[str]:
    for info in msgspec.structs.fields(type(one)):
        mine, others = getattr(one, info.name), getattr(other, info.name)
        if isinstance(mine, Section) and isinstance(others, Section):
            yield from _differing(mine, others, f"{path}{info.name}.")
        elif mine != others:
            yield f"{path}{info.name}"
