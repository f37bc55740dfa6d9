"""The config: `load` gives a whole `Config`, or `ConfigErrors` with all that is wrong. Only upper layers import it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.config import yaml12
from gateway.config.keys import (
    NOT_EFFECTIVE,
    POLICIES,
    Admin,
    Config,
    Discovery,
    ReplicaConfig,
    Resilience,
    Routing,
    Section,
    Server,
    hidden,
)
from gateway.config.live import merged
from gateway.config.reader import Invalid, Reader, default_of, did_you_mean, takes_text

__all__ = [
    "POLICIES",
    "Admin",
    "Config",
    "ConfigErrors",
    "Discovery",
    "ReplicaConfig",
    "Resilience",
    "Routing",
    "Server",
    "ineffective",
    "load",
    "merged",
    "public",
    "replica_entry",
    "replica_list",
]

PREFIX = "GATEWAY_"
_SERVICE_LINK = re.compile(r"(?:[A-Z0-9]+_)*(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_[A-Z]+.*)?)")
"""What Kubernetes puts into each pod beside a Service that is named `gateway` or `gateway-…`; never meant for us."""


class ConfigErrors(Exception):
    """The config is wrong; `errors` has one line for each reason, with file (or variable) and key path."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """The file, `GATEWAY_…` variables over it, defaults below it. Raises `ConfigErrors`, which has all errors."""
    data, errors = ({}, []) if path is None else _read(path)
    overridden = _override(data, env, errors) if isinstance(data, dict) else {}
    reader = Reader(str(path or "config"), env, overridden)
    try:
        config = reader.section(Config, data, "")
    except Invalid:
        raise ConfigErrors(errors + reader.errors) from None
    if errors:
        raise ConfigErrors(errors)
    return config


def replica_list(text: str, source: str, env: Mapping[str, str]) -> tuple[ReplicaConfig, ...]:
    """The entries of a list, in YAML or JSON, as they stand under `replicas`. Raises `ConfigErrors`.

    Text without any data is refused: it is more likely half written than meant.
    """
    data, problems = yaml12.parse(text)
    if data is None or problems:
        raise ConfigErrors([f"{source}: {problem}" for problem in problems or ["expected a list, got nothing"]])
    reader = Reader(source, env, {})
    try:
        return reader.section(Config, {"replicas": data}, "").replicas
    except Invalid:
        raise ConfigErrors(reader.errors) from None


def replica_entry(body: bytes) -> ReplicaConfig:
    """One entry, in JSON, as it comes over the network: it may not name variables, which could lead secrets astray.

    Raises `ConfigErrors`.
    """
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ConfigErrors([f"body: not JSON: {error}"]) from None
    reader = Reader("body", {}, {})
    try:
        return reader.section(ReplicaConfig, data, "")
    except Invalid:
        raise ConfigErrors(reader.errors) from None


def ineffective(config: Config) -> list[str]:
    """Key paths that the config sets to other than their default and that change nothing in this version."""
    off = re.compile(rf"(?:{'|'.join(map(re.escape, NOT_EFFECTIVE))})(?![^.])")
    return sorted({path for path in _changed(config, "") if off.match(path)})


def public(section: Section) -> dict[str, Any]:
    """The effective config as plain data, each secret as `***`."""
    plain: dict[str, Any] = _masked(msgspec.to_builtins(section), "")
    return plain


def _read(path: Path) -> tuple[Any, list[str]]:
    """The data of the file, `{}` for an empty one, and what is wrong with it."""
    try:
        data, problems = yaml12.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        return {}, [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        return {}, [f"{path}: not UTF-8 at byte {error.start}"]
    return {} if data is None else data, [f"{path}: {problem}" for problem in problems]


def _override(data: dict[str, Any], env: Mapping[str, str], errors: list[str]) -> dict[str, str]:
    """Put the variables' values into the data. Gives key path -> name of the variable."""
    done = {}
    for variable in sorted(env):
        name = variable.removeprefix(PREFIX)
        if name == variable or _SERVICE_LINK.fullmatch(name):
            continue
        keys = name.lower().split("__")
        kind = _kind(keys)
        if kind is None:
            known = [key.upper().replace(".", "__") for key in _paths(Config, "")]
            errors.append(f"{variable}: unknown name{did_you_mean(name.upper(), known, PREFIX)}")
            continue
        value, problems = yaml12.parse(env[variable])
        if takes_text(kind) and not isinstance(value, str | None):
            value, problems = env[variable], []
        errors += [f"{variable}: {problem}" for problem in problems]
        _put(data, keys, value)
        done[".".join(keys)] = variable
    return done


def _kind(keys: list[str]) -> Any:
    """The type of the key at this path; `None` if there is no such key."""
    kind: Any = Config
    for key in keys:
        fields = {f.name: f.type for f in msgspec.structs.fields(kind)} if _is_section(kind) else {}
        kind = fields.get(key)
    return kind


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _paths(cls: type[Section], path: str) -> Iterator[str]:
    for info in msgspec.structs.fields(cls):
        yield f"{path}{info.name}"
        if _is_section(info.type):
            yield from _paths(info.type, f"{path}{info.name}.")


def _put(data: dict[str, Any], keys: list[str], value: object) -> None:
    """Set one key; a section that is no mapping stays as it is, for the reader to refuse."""
    *sections, last = keys
    for key in sections:
        if data.get(key) is None:
            data[key] = {}
        data = data[key]
        if not isinstance(data, dict):
            return
    data[last] = value


def _changed(section: Section, path: str) -> Iterator[str]:
    """Path of each key that differs from its default; entries of a list share their path."""
    for info in msgspec.structs.fields(section):
        value = getattr(section, info.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Section):
                yield from _changed(part, f"{path}{info.name}.")
            elif info.required or value != default_of(info):
                yield f"{path}{info.name}"


def _masked(value: Any, name: str) -> Any:
    match value:
        case dict():
            return {key: _masked(inner, key) for key, inner in value.items()}
        case list() | tuple():
            return [_masked(inner, name) for inner in value]
        case _:
            return hidden(name, value)
