"""Plain data in, structs out, and every error on the way; one `Reader` is one reading."""

import contextlib
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from gateway.config import yaml12
from gateway.config.checks import CHECKS, same_names
from gateway.config.keys import NOT_YET, SECRETS, ReplicaConfig, Section

S = TypeVar("S", bound=Section)

_REFERENCE = re.compile(r"\$(\$\{)|\$\{([^}]*)\}?")


class Invalid(Exception):
    """A value was refused, and the reason has been noted."""


class Reader:
    """Reads one config. `errors` holds `source: key.path: problem` for each thing that is wrong."""

    def __init__(self, source: str, env: Mapping[str, str], overridden: Mapping[str, str]) -> None:
        self.errors: list[str] = []
        self._source = source
        self._env = env
        self._overridden = overridden  # key path -> name of the environment variable that has set it

    def refuse(self, path: str, problem: str) -> Invalid:
        """Note a problem where its value came from: the file, or an environment variable."""
        names = [name for key, name in self._overridden.items() if re.match(rf"{re.escape(key)}(?![^.\[])", path)]
        self.errors.append(f"{names[0] if names else self._source}: {path}: {problem}")
        return Invalid(path)

    def section(self, cls: type[S], raw: object, path: str) -> S:
        """The struct, whose every field is right. All fields are looked at before it raises `Invalid`."""
        given = self._mapping({} if raw is None else raw, path)
        before = len(self.errors)
        fields = {f.name: f for f in msgspec.structs.fields(cls)}
        for name in given:
            if name not in fields:
                self.refuse(_join(path, name), f"unknown key{did_you_mean(name, fields)}")
        values: dict[str, object] = {}
        for name, info in fields.items():
            try:
                if name in given:
                    values[name] = self._field(info, given[name], _join(path, name))
                elif info.required:
                    raise self.refuse(_join(path, name), "missing")
                else:
                    values[name] = default_of(info)
            except Invalid:
                continue
        self._check(cls, values, path)
        if len(self.errors) > before:
            raise Invalid(path)
        return cls(**values)

    def _check(self, cls: type[S], values: dict[str, object], path: str) -> None:
        needs, check = CHECKS.get(cls, (frozenset(), None))
        if check and needs <= values.keys():
            for name, problem in check(cls(**values)):
                self.refuse(_join(path, name), problem)

    def _field(self, info: msgspec.structs.FieldInfo, raw: object, path: str) -> object:
        if path in NOT_YET:
            default = json.loads(msgspec.json.encode(default_of(info)))
            if raw not in (None, default, *NOT_YET[path]):
                raise self.refuse(path, f"not available in this version, leave it at {got(default)}")
        return self._value(info.type, raw, path)

    def _value(self, kind: Any, raw: object, path: str) -> object:
        if isinstance(kind, type) and issubclass(kind, Section):
            return self.section(kind, raw, path)
        if get_origin(kind) is tuple:
            return tuple(self._each(get_args(kind)[0], self._items(raw, path)).values())
        if get_origin(kind) is dict:
            given = self._mapping({} if raw is None else raw, path)
            found = self._each(get_args(kind)[1], {_join(path, name): value for name, value in given.items()})
            return dict(zip(given, found.values(), strict=True))
        return self._leaf(kind, raw, path)

    def _each(self, kind: Any, items: Mapping[str, object]) -> dict[str, object]:
        """Key path -> value. All are looked at before it raises `Invalid`."""
        before = len(self.errors)
        values: dict[str, Any] = {}
        for path, raw in items.items():
            with contextlib.suppress(Invalid):
                values[path] = self._value(kind, raw, path)
        for path, problem in same_names(values) if kind is ReplicaConfig else ():
            self.refuse(path, problem)
        if len(self.errors) > before:
            raise Invalid(*items)
        return values

    def _mapping(self, raw: object, path: str) -> dict[str, object]:
        if not isinstance(raw, dict):
            raise self.refuse(path, f"expected a mapping, got {got(raw)}")
        return {str(name): value for name, value in raw.items()}

    def _items(self, raw: object, path: str) -> dict[str, object]:
        if not isinstance(raw, list | None):
            raise self.refuse(path, f"expected a list, got {got(raw)}")
        return {f"{path}[{i}]": item for i, item in enumerate(raw or [])}

    def _leaf(self, kind: Any, raw: object, path: str) -> object:
        value = self._expanded(raw, path) if isinstance(raw, str) else raw
        if value != raw and isinstance(value, str) and not takes_text(kind):
            value = yaml12.parse(value)[0]
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            raise self.refuse(path, f"expected {expected(kind)}, got {self._shown(raw, path)}") from None

    def _shown(self, raw: object, path: str) -> str:
        return "something else" if path.rpartition(".")[2] in SECRETS else got(raw)

    def _expanded(self, text: str, path: str) -> str:
        """The text with each `${NAME}` replaced from the environment; `$${` stands for `${`."""
        before = len(self.errors)
        for found in _REFERENCE.finditer(text):
            name = found.group(2)
            if name is not None and not re.fullmatch(r"\$\{\w+\}", found.group()):
                self.refuse(path, f"expected ${{NAME}}, got {self._shown(found.group(), path)}")
            elif name is not None and name not in self._env:
                self.refuse(path, f"the environment has no {name}")
        if len(self.errors) > before:
            raise Invalid(path)
        return _REFERENCE.sub(lambda m: "${" if m.group(1) else self._env[m.group(2)], text)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def default_of(info: msgspec.structs.FieldInfo) -> object:
    """The default of a key that has one."""
    return info.default if info.default is not msgspec.NODEFAULT else info.default_factory()


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """`, did you mean "x"?`, the prefix put before it, or nothing when no name is near."""
    near = difflib.get_close_matches(name, list(names), 1)
    return f', did you mean "{prefix}{near[0]}"?' if near else ""


def takes_text(kind: Any) -> bool:
    """Whether a string, and not only a word out of a list, is a right value."""
    if get_origin(kind) is Annotated:
        return takes_text(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return any(map(takes_text, get_args(kind)))
    return kind is str


def expected(kind: Any) -> str:
    """What a key takes, in words."""
    if get_origin(kind) is Annotated:
        return str(kind.__metadata__[-1].description)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_args(kind):
        return f"{expected(get_args(kind)[0])} or null"
    return {bool: "true or false", str: "a string"}[kind]


def got(value: object) -> str:
    """What stood there, in words, never longer than a line."""
    if isinstance(value, dict):
        return "a mapping" if value else "{}"
    if isinstance(value, list | tuple):
        return "a list" if value else "[]"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:76]}…"
