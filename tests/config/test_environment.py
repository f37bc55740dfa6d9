"""What the environment adds to a config, what must not show of it, and files that cannot be read."""

from pathlib import Path

import pytest

from gateway.config import Config, ConfigErrors, load, public
from tests.config.loading import errors, loaded


def test_references_are_read_from_the_environment(tmp_path: Path) -> None:
    """`${NAME}` within text, alone where a number is due, and `$${` for itself."""
    text = "{server: {host: 'a-${X}-${Y}', port: '${P}'}, admin: {token: 'x$${X}'}}"
    config = loaded(tmp_path, text, {"X": "1", "Y": "2", "P": "77"})
    assert (config.server.host, config.server.port, config.admin.token) == ("a-1-2", 77, "x${X}")


def test_variables_override_the_file(tmp_path: Path) -> None:
    """Values are YAML, names are of any case after the prefix, lists and mappings are set whole."""
    env = {
        "GATEWAY_SERVER__PORT": "9000",
        "GATEWAY_server__Tls": "{}",
        "GATEWAY_RESILIENCE__PROBE__FALL": "5",
        "GATEWAY_REPLICAS": "[{url: 'http://a:1', api_key: '${KEY}'}]",
        "GATEWAY_ADMISSION__CLASSES": "{vip: -1}",
        "GATEWAY_RESILIENCE__HEDGE_AFTER_S": "null",
        "GATEWAY_ADMIN__TOKEN": "12345",
        "KEY": "k",
    }
    config = loaded(tmp_path, "server: {port: 1, host: '::1'}\nresilience:\n", env)
    assert (config.server.port, config.server.host, config.resilience.probe.fall) == (9000, "::1", 5)
    assert (config.replicas[0].api_key, config.admission.classes) == ("k", {"vip": -1})
    assert config.admin.token == "12345"


def test_an_error_in_a_variable_names_the_variable(tmp_path: Path) -> None:
    """The file is not to blame; a variable whose value is no YAML is told as such."""
    env = {"GATEWAY_SERVER__PORT": "x", "GATEWAY_REPLICAS": "[{url: x}]", "GATEWAY_TELEMETRY__ENGINE": "{"}
    lines = errors(tmp_path, "server: {workers: 2}", env)
    assert lines[0].startswith("GATEWAY_TELEMETRY__ENGINE: line 1, column 2: not YAML: ")
    assert [line.split(": ")[:2] for line in lines[1:]] == [
        ["GATEWAY_SERVER__PORT", "server.port"],
        ["FILE", "server.workers"],
        ["GATEWAY_REPLICAS", "replicas[0].url"],
    ]


@pytest.mark.parametrize("name", ["GATEWAY_SERVER__PROT", "GATEWAY_SERVER__PORT__X", "GATEWAY_REPLICAS__URL"])
def test_an_unknown_variable_is_an_error(name: str) -> None:
    """A slip in a name would otherwise go unnoticed."""
    with pytest.raises(ConfigErrors, match=f"{name}: unknown name"):
        load(None, {name: "1"})


def test_what_kubernetes_sets_is_none_of_ours() -> None:
    """Beside a Service called `gateway`, each pod gets `GATEWAY_PORT=tcp://…` and the like."""
    names = (
        "PORT SERVICE_HOST SERVICE_PORT SERVICE_PORT_HTTP PORT_80_TCP PORT_80_TCP_ADDR ADMIN_PORT ADMIN_SERVICE_HOST"
    )
    assert load(None, {f"GATEWAY_{name}": "tcp://10.0.0.1:80" for name in names.split()}) == Config()


def test_a_section_that_is_none_is_refused_under_a_variable(tmp_path: Path) -> None:
    """A variable does not hide that the file is wrong around it."""
    assert errors(tmp_path, "server: 3", {"GATEWAY_SERVER__PORT": "1"}) == ["FILE: server: expected a mapping, got 3"]


# secrets, and what they must not show in

SECRET = "hunter2"


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """Neither in a repr nor in the effective config."""
    text = f"{{admin: {{token: {SECRET}}}, replicas: [{{url: 'http://a:1', api_key: {SECRET}}}]}}"
    config = loaded(tmp_path, text)
    assert SECRET not in f"{config!r} {config.replicas!r} {config.replicas[0].replica()!r} {public(config)}"
    assert public(config)["admin"] == {"host": "127.0.0.1", "port": 9090, "token": "***"}
    assert public(Config())["admin"]["token"] is None


@pytest.mark.parametrize(
    "text",
    [
        f"admin: {{token: [{SECRET}]}}",
        f"admin: {{token: '{SECRET} x'}}",
        f"admin: {{token: '${{{SECRET} x}}'}}",
        f"replicas: [{{url: 'http://a:1', api_key: '{SECRET} x'}}]",
        f"replicas: [{{url: 'http://user:{SECRET}@a:1'}}]",
        f"state: {{url: 'redis://:{SECRET}@x'}}",
        "server: {port: '${S}'}",
    ],
)
def test_errors_do_not_show_secrets(tmp_path: Path, text: str) -> None:
    """Logs of a failed start are read by many."""
    assert SECRET not in "\n".join(errors(tmp_path, text, {"S": SECRET}))


# the file


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """No file, and no text."""
    with pytest.raises(ConfigErrors, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml", {})
    (tmp_path / "bytes").write_bytes(b"a: \xff")
    with pytest.raises(ConfigErrors, match="bytes: not UTF-8 at byte 3"):
        load(tmp_path / "bytes", {})


def test_yaml_errors_have_a_place(tmp_path: Path) -> None:
    """Line and column, from 1; a key that stands twice is one of them, and hides no other error."""
    assert errors(tmp_path, "server:\n  port: [1\n")[0].startswith("FILE: line 3, column 1: not YAML: ")
    assert errors(tmp_path, "server:\n  port: 1\n  port: 0\n  workers: 2\n") == [
        'FILE: line 3, column 3: key "port" stands twice',
        "FILE: server.workers: not available in this version, leave it at 1",
    ]
