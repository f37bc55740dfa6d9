"""Answers whose text is prescribed: a tool call, or JSON for `response_format`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Forced:
    """The text to answer; with `tool`, it is the arguments of a call of that function."""

    text: str
    tool: str | None = None


def forced(
    tools: Sequence[dict[str, Any]] | None,
    choice: str | dict[str, Any] | None,
    last_text: str,
    response_format: dict[str, Any] | None,
) -> Forced | None:
    """A tool call when there are tools and `tool_choice` or the word "tool" asks for it; else JSON if a format does."""
    if tools and choice != "none" and (isinstance(choice, dict) or choice == "required" or "tool" in last_text.split()):
        function = _chosen(tools, choice)
        arguments = msgspec.json.encode(sample(function.get("parameters") or {"type": "object"})).decode()
        return Forced(arguments, str(function.get("name", "tool")))
    kind = (response_format or {}).get("type")
    if kind == "json_object":
        return Forced('{"answer":"forty two","certain":true,"steps":[1,2,3]}')
    if kind == "json_schema":
        schema = (response_format or {}).get("json_schema", {}).get("schema") or {"type": "object"}
        return Forced(msgspec.json.encode(sample(schema)).decode())
    return None


def _chosen(tools: Sequence[dict[str, Any]], choice: str | dict[str, Any] | None) -> dict[str, Any]:
    """The function named by the choice, or the first."""
    functions: list[dict[str, Any]] = [tool.get("function") or tool for tool in tools]
    if isinstance(choice, dict):
        wanted = (choice.get("function") or choice).get("name")
        return next((function for function in functions if function.get("name") == wanted), functions[0])
    return functions[0]


def sample(schema: dict[str, Any]) -> Any:
    """A value that fits a JSON schema of the simple kinds: its types, properties, items, enum and const."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return {name: sample(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [sample(schema.get("items") or {})]
    return {"integer": 7, "number": 1.5, "boolean": True, "null": None}.get(str(kind), "river stone")
