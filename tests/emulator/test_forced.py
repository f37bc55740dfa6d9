from typing import Any

import pytest

from gateway.emulator.forced import Forced, forced, sample


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "river stone"),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 3}, 3),
        ({"type": ["integer", "null"]}, 7),
        ({"type": "array", "items": {"type": "number"}}, [1.5]),
        ({"properties": {"a": {"type": "boolean"}}}, {"a": True}),
        ({"type": "null"}, None),
    ],
)
def test_samples_fit_their_schema(schema: dict[str, Any], value: object) -> None:
    """One value for each of the simple kinds."""
    assert sample(schema) == value


def test_a_named_function_is_the_one_called() -> None:
    """Also in the flat form of the responses API; without a name it is the first."""
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "a"}}, {"type": "function", "name": "b"}]
    assert forced(tools, {"type": "function", "function": {"name": "b"}}, "", None) == Forced("{}", "b")
    assert forced(tools, "required", "", None) == Forced("{}", "a")


def test_no_call_when_none_is_wanted() -> None:
    """tool_choice none wins over the word; a word that only contains it does not count."""
    tools = [{"function": {"name": "a"}}]
    assert forced(tools, "none", "use the tool", None) is None
    assert forced(tools, "auto", "toolbox", None) is None
    assert forced(None, None, "use the tool", None) is None
