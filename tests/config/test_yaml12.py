"""YAML is read as people mean it."""

import pytest
import yaml

from gateway.config.yaml12 import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("1:30", "1:30"),
        ("012", "012"),
        ("-12", -12),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", ".inf"),
        ("2024-01-02", "2024-01-02"),
        ("~", None),
        ("", None),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """Words, times, dates and numbers with a leading zero are text."""
    assert parse(text) == (value, [])


@pytest.mark.parametrize("text", ["a: !!python/name:os.system x", "? [a]\n: b", "a: b: c", "a: \x00", "a: *nope"])
def test_what_is_no_plain_data_is_an_error(text: str) -> None:
    """No tag makes an object; what cannot be read is one error, not an exception."""
    value, errors = parse(text)
    assert value is None
    assert len(errors) == 1


def test_the_library_is_left_alone() -> None:
    """Our scalars are not those of other users of PyYAML in this process."""
    assert yaml.safe_load("a: off") == {"a": False}


@pytest.mark.parametrize(
    "text",
    ["a: !!int abc", "a: !!float x", "a: !!timestamp x", "a: !!bool maybe", "a: !!int ''", "a: 1" + "0" * 5000],
)
def test_a_value_that_is_not_what_its_tag_says(text: str) -> None:
    """It ended `gateway serve` with a traceback, and would have ended one that runs when its file was reloaded."""
    data, problems = parse(text)
    assert data is None
    assert [problem.startswith("line 1, column 4: not YAML: no tag:yaml.org,2002:") for problem in problems] == [True]


@pytest.mark.parametrize("text", ["[" * 2000, "{a: " * 2000, "- " * 2000])
def test_what_is_nested_too_deeply(text: str) -> None:
    """The same: a problem, and no traceback."""
    assert parse(text) == (None, ["not YAML that can be read: nested too deeply"])
