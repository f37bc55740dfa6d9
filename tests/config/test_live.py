"""What a running gateway takes over from a changed config."""

from pathlib import Path

import msgspec
import pytest

from gateway.config import Config, ConfigErrors, ReplicaConfig, load, merged, replica_entry, replica_list
from gateway.config.live import LIVE

ROOT = Path(__file__).parent.parent.parent
RUNNING = Config()


def changed(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, {})


def test_live_keys_are_taken_and_the_others_are_named(tmp_path: Path) -> None:
    """Nothing that needs a restart gets into the running config."""
    text = (
        "server: {port: 9000, max_body_bytes: 5, tls: {cert: null}}\nadmin: {token: abc}\nresilience: {max_attempts: 7,"
        " warm_up: {prompts: 1}}\nrouting: {policy: random}\nadmission: {max_queue: 1, classes: {only: 0}}\n"
        "replicas: [{url: http://x:1}]\n"
    )
    new, needs_restart = merged(RUNNING, changed(tmp_path, text))
    assert needs_restart == ["admin.token", "admission.max_queue", "resilience.warm_up.prompts", "server.port"]
    assert (new.server.port, new.server.max_body_bytes, new.resilience.max_attempts) == (8080, 5, 7)
    assert (new.routing.policy, new.admission.classes, new.admin.token) == ("random", {"only": 0}, None)
    assert new.replicas == (ReplicaConfig(url="http://x:1"),)


def test_nothing_changed_is_nothing() -> None:
    """The same config again needs no restart and changes nothing."""
    assert merged(RUNNING, Config()) == (RUNNING, [])


@pytest.mark.parametrize("key", sorted(LIVE))
def test_live_keys_exist_and_are_documented(key: str) -> None:
    """`docs/operations.md` lists what is reloaded."""
    section: object = RUNNING
    for name in key.split("."):
        assert name in {info.name for info in msgspec.structs.fields(type(section))}  # type: ignore[arg-type]
        section = getattr(section, name)
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    assert f"`{key}`" in page or f"`.{key.split('.')[-1]}`" in page


def test_a_list_of_replicas() -> None:
    """YAML or JSON, with variables, as under `replicas`."""
    (entry,) = replica_list("- {url: http://x:1, api_key: '${KEY}'}\n", "f", {"KEY": "k"})
    assert (entry.url, entry.api_key) == ("http://x:1", "k")
    assert replica_list('[{"url": "http://x:1"}]', "f", {}) == (ReplicaConfig(url="http://x:1"),)
    assert replica_list("[]", "f", {}) == ()


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("", ["f: expected a list, got nothing"]),
        ("# only a comment", ["f: expected a list, got nothing"]),
        ("{a: 1}", ["f: replicas: expected a list, got a mapping"]),
        ("- {url: x}\n- {}\n", None),
        ("- {url: http://x:1}\n- {url: http://x:1}\n", None),
        ("- {url: 'http", None),
    ],
)
def test_a_bad_list_is_refused(text: str, errors: list[str] | None) -> None:
    """With all its errors; a list that is cut off, or empty text, is no list."""
    with pytest.raises(ConfigErrors) as caught:
        replica_list(text, "f", {})
    assert errors is None or caught.value.errors == errors


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b"null", b'{"url": "${HOME}"}'])
def test_a_bad_entry_is_refused(body: bytes) -> None:
    """Also one that names a variable."""
    with pytest.raises(ConfigErrors):
        replica_entry(body)
