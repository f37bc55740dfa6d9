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
