"""A config of some text and some environment, or the errors in it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import Config, ConfigErrors, load


def errors(tmp_path: Path, text: str, env: Mapping[str, str] | None = None) -> list[str]:
    """What `load` says of this file, `FILE` for its name."""
    file = tmp_path / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigErrors) as raised:
        load(file, env or {})
    return [line.replace(str(file), "FILE") for line in raised.value.errors]


def loaded(tmp_path: Path, text: str, env: Mapping[str, str] | None = None) -> Config:
    file = tmp_path / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, env or {})
