"""YAML as people mean it: `off` is a word and not `false`, `1:30` is text and not 90, a key stands only once."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

_SCALARS = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$",
        list("-+.0123456789"),
    ),
)
"""The scalars of YAML 1.2's core schema (yaml.org/spec/1.2.2, 10.3) but hex, octal, infinity, NaN."""


def parse(text: str) -> tuple[object, list[str]]:
    """The plain data, and what is wrong with the text, as `line L, column C: problem`; no data if it is not YAML."""
    errors: list[str] = []
    try:
        return _Loader(text, errors).get_single_data(), errors
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        return None, [*errors, _at(error.problem_mark or error.context_mark, f"not YAML: {problem}")]
    except RecursionError:
        return None, [*errors, "not YAML that can be read: nested too deeply"]
    except yaml.reader.ReaderError as error:
        return None, [f"not YAML: character {error.position + 1} is {error.character!r}, which no YAML may hold"]


def _at(mark: yaml.Mark | None, problem: str) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


class _Loader(yaml.SafeLoader):
    """Gathers keys that stand twice; the last one wins."""

    def __init__(self, text: str, errors: list[str]) -> None:
        self._errors = errors
        super().__init__(text)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # A tag's own constructor takes for granted that its text is right: `!!int abc`.
            raise yaml.constructor.ConstructorError(None, None, f"no {node.tag}", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # the base class refuses it
            if key.value in seen:
                self._errors.append(_at(key.start_mark, f'key "{key.value}" stands twice'))
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}  # its own: the base class keeps YAML 1.1
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
