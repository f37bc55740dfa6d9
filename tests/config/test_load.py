"""A config is read whole, or every error in it is told at once."""

import inspect
from pathlib import Path

import pytest

from gateway.config import POLICIES, Config, ineffective, load
from gateway.core.policies import POLICIES as REGISTRY
from gateway.core.types import Replica, ReplicaId
from tests.config.loading import errors, loaded


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\n", "replicas:\n", "server: {tls: }"])
def test_what_is_not_set_has_its_default(tmp_path: Path, text: str) -> None:
    """An empty file, and a section without content, are the defaults."""
    assert loaded(tmp_path, text) == Config() == load(None, {})


def test_all_errors_are_listed_at_once(tmp_path: Path) -> None:
    """Syntax of keys, types, ranges, references between keys and the environment: one reading shows all."""
    text = """
server: {port: 99999, hots: x}
admin: {host: 0.0.0.0, port: true}
replicas:
  - {url: "ftp://a:1", gpus: ["n:0", "x"]}
  - {name: b, api_key: "${NOPE}"}
routing: {policy: x}
resilience: {probe: {fall: 0, path: health}}
admission: {classes: {a: 1, b: x}}
logging: [1]
"""
    assert errors(tmp_path, text, {"GATEWAY_NOPE": "1", "GATEWAY_SERVR__PORT": "1"}) == [
        "GATEWAY_NOPE: unknown name",
        'GATEWAY_SERVR__PORT: unknown name, did you mean "GATEWAY_SERVER__PORT"?',
        'FILE: server.hots: unknown key, did you mean "host"?',
        "FILE: server.port: expected a port from 0 (any free one) to 65535, got 99999",
        "FILE: admin.port: expected a port from 0 (any free one) to 65535, got true",
        'FILE: admin.token: expected a token, as the host "0.0.0.0" can be reached from elsewhere, got null',
        'FILE: replicas[0].gpus[1]: expected HOST:INDEX, a GPU UUID or NAMESPACE/POD, got "x"',
        'FILE: replicas[0].url: expected http://HOST:PORT or https://HOST:PORT, got "ftp://a:1"',
        "FILE: replicas[1].url: missing",
        "FILE: replicas[1].api_key: the environment has no NOPE",
        f'FILE: routing.policy: expected one of {", ".join(sorted(POLICIES))}, got "x"',
        'FILE: resilience.probe.path: expected a path that begins with /, got "health"',
        "FILE: resilience.probe.fall: expected a whole number of at least 1, got 0",
        'FILE: admission.classes.b: expected a whole number from -1000 to 1000, got "x"',
        "FILE: logging: expected a mapping, got a list",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[1]", "FILE: : expected a mapping, got a list"),
        ("replicas: {url: x}", "FILE: replicas: expected a list, got a mapping"),
        ("replicas: [x]", 'FILE: replicas[0]: expected a mapping, got "x"'),
        ("server: {host: ''}", 'FILE: server.host: expected a string that is not empty, got ""'),
        ("server: {drain_timeout_s: 0}", "FILE: server.drain_timeout_s: expected a number of seconds above 0, at most"),
        ("server: {drain_timeout_s: .inf}", "FILE: server.drain_timeout_s: expected a number of seconds above 0"),
        ("server: {drain_timeout_s: 1e999}", "FILE: server.drain_timeout_s: expected a number of seconds above 0"),
        ("telemetry: {learned: yes}", 'FILE: telemetry.learned: expected true or false, got "yes"'),
        ("logging: {level: loud}", "FILE: logging.level: expected one of debug, info, warning, error, got"),
        ("server: {tls: {cert: nowhere.pem}}", "FILE: server.tls.key: expected a file, as cert and key go together"),
        ("server: {tls: {client_ca: nowhere.pem}}", "FILE: server.tls.cert: expected a file, as client_ca is set"),
        (
            "server: {cors_origins: [https://a.example/]}",
            "FILE: server.cors_origins[0]: expected an origin in lower case, such as",
        ),
        ("server: {cors_origins: [https://A.example]}", "FILE: server.cors_origins[0]: expected an origin"),
        ("admin: {port: 8080}", "FILE: admin.port: expected another port than that of server, got 8080"),
        (
            "routing: {load_factor: 2}",
            "FILE: routing.load_factor: expected null, as it belongs to the policy session or",
        ),
        ("server: {host: '${A-B}'}", 'FILE: server.host: expected ${NAME}, got "${A-B}"'),
        ("server: {host: '${'}", 'FILE: server.host: expected ${NAME}, got "${"'),
        ("server: {port: '${P}'}", "FILE: server.port: expected a port from 0 (any free one) to 65535, got"),
    ],
)
def test_an_error_says_where_what_and_instead_of_what(tmp_path: Path, text: str, error: str) -> None:
    """File, key path, what was expected, what was found."""
    assert errors(tmp_path, text, {"P": "x"})[0].startswith(error)


@pytest.mark.parametrize(
    ("text", "key", "default"),
    [
        ("server: {workers: 2}", "server.workers", "1"),
        ("tenants: [{name: x}]", "tenants", "[]"),
        ("state: {url: 'redis://x'}", "state.url", "null"),
        ("logging: {prompts: always}", "logging.prompts", '"never"'),
        ("tracing: {otlp_endpoint: 'http://x'}", "tracing.otlp_endpoint", "null"),
    ],
)
def test_a_feature_that_is_not_built_is_not_ignored(tmp_path: Path, text: str, key: str, default: str) -> None:
    """A key without its feature is refused at any value but the default."""
    assert errors(tmp_path, text) == [f"FILE: {key}: not available in this version, leave it at {default}"]


@pytest.mark.parametrize(
    ("aliases", "keys"),
    [
        ("{a: m}", []),
        ("{a: m, b: m, org/c: m}", []),
        ("{a: a}", ["aliases.a"]),
        ("{a: b, b: a}", ["aliases.a", "aliases.b"]),
        ("{a: b, b: m}", ["aliases.a"]),
        ("{'': m}", ["aliases"]),
        ("{a: ''}", ["aliases.a"]),
    ],
)
def test_an_alias_stands_for_a_served_name(tmp_path: Path, aliases: str, keys: list[str]) -> None:
    """Not for itself, not for another alias, and so never for a circle of them."""
    text = f"models: {{aliases: {aliases}}}"
    if not keys:
        assert loaded(tmp_path, text).models.aliases["a"] == "m"
    else:
        assert [error.split(": ")[1] for error in errors(tmp_path, text)] == [f"models.{key}" for key in keys]


@pytest.mark.parametrize("value", [0.25, "p95", None])
def test_hedges_are_timed_by_a_number_or_by_what_was_seen(tmp_path: Path, value: object) -> None:
    """Or are off."""
    assert loaded(tmp_path, f"resilience: {{hedge_after_s: {value or 'null'}}}").resilience.hedge_after_s == value


@pytest.mark.parametrize("value", [0, -1, 86401, "p50", "soon"])
def test_other_times_for_hedges_are_refused(tmp_path: Path, value: object) -> None:
    """With what would be right."""
    (error,) = errors(tmp_path, f"resilience: {{hedge_after_s: {value}}}")
    assert "expected a number of seconds above 0, at most 86400, `p95`, or null" in error


def test_resume_may_be_off(tmp_path: Path) -> None:
    """`off` is a word, not YAML 1.1's `false`."""
    assert loaded(tmp_path, "resilience: {resume: off}").resilience.resume == "off"


@pytest.mark.parametrize(
    "url",
    ["http://a:x", "http://a:0", "http://a:99999", "http://", "//a:1", "http://a b:1", "http://a:1/v1", "http://a?x=1"],
)
def test_a_replica_is_scheme_host_and_port(tmp_path: Path, url: str) -> None:
    """Anything else in a replica's URL is refused."""
    (error,) = errors(tmp_path, f"replicas: [{{url: '{url}'}}]")
    assert error.startswith("FILE: replicas[0].url: expected http://HOST:PORT or https://HOST:PORT, got ")
    assert url in error


@pytest.mark.parametrize(
    ("url", "same", "name"),
    [
        ("http://a:8000/", "http://a:8000", "a:8000"),
        ("https://a", "https://a:443", "a:443"),
        ("http://a", "http://a:80", "a:80"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_replica_is_named_after_its_address(tmp_path: Path, url: str, same: str, name: str) -> None:
    """Without a name it is `host:port`; the core gets the URL in one form."""
    (entry,) = loaded(tmp_path, f"replicas: [{{url: '{url}', gpus: ['n:0']}}]").replicas
    assert entry.replica() == Replica(ReplicaId(name), same, "vllm", ("n:0",), None, None)


def test_names_are_unique(tmp_path: Path) -> None:
    """A name, given or made of the URL, is one replica's; other errors do not hide it."""
    text = "replicas: [{url: 'http://a:1'}, {url: 'http://a:1/'}, {url: 'http://b:1', name: 'a:1'}, {url: x}]"
    lines = errors(tmp_path, text)
    assert lines[1:] == [
        'FILE: replicas[1].name: expected a name of its own, got that of replicas[0], "a:1"',
        'FILE: replicas[2].name: expected a name of its own, got that of replicas[0], "a:1"',
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_admin_port_needs_no_token(tmp_path: Path, host: str) -> None:
    """Only who is on the machine reaches it."""
    assert loaded(tmp_path, f"admin: {{host: '{host}'}}").admin.token is None


def test_a_table_of_parameters_belongs_to_each_policy(tmp_path: Path) -> None:
    """Only what is given is handed to the policy, which knows its own defaults."""
    assert loaded(tmp_path, "routing: {g: 0.1, k: 0}").routing.parameters == {"g": 0.1, "k": 0.0}
    other = loaded(tmp_path, "routing: {policy: system_prompt, load_factor: 2}").routing
    assert other.parameters == {"load_factor": 2.0}


def test_what_changes_nothing_is_told(tmp_path: Path) -> None:
    """Keys without effect in this version, when they are set to another value than their default."""
    text = "{telemetry: {learned: false, engine: {timeout_s: 2}}, replicas: [{url: 'http://a:1', cost_per_hour: 4}]}"
    assert ineffective(loaded(tmp_path, text)) == ["replicas.cost_per_hour"]
    assert ineffective(Config()) == []


def test_the_policies_are_those_that_exist() -> None:
    """A name that the config takes is in the registry, and its parameters are those of its constructor."""
    for name, make in REGISTRY.items():
        assert tuple(inspect.signature(make).parameters) == POLICIES[name]
    assert set(REGISTRY) == set(POLICIES)


def test_gpu_sources(tmp_path: Path) -> None:
    """One kind each, with the URL of a page where it has one."""
    text = """telemetry: {gpu: {sources: [
      {dcgm: "http://n1:9400", host: node1}, {nvidia_smi: "http://n2:9835/metrics"}, {amd: "https://n3:5000"},
      {nvml: local}, {prometheus: "http://p/prom?x=1"}]}}"""
    sources = loaded(tmp_path, text).telemetry.gpu.sources
    assert [source.kinds for source in sources] == [
        {"dcgm": "http://n1:9400"},
        {"nvidia_smi": "http://n2:9835/metrics"},
        {"amd": "https://n3:5000"},
        {"nvml": "local"},
        {"prometheus": "http://p/prom?x=1"},
    ]
    assert sources[0].host == "node1"


def test_wrong_gpu_sources(tmp_path: Path) -> None:
    """Each says what was expected; a password is not said back."""
    text = """telemetry: {gpu: {sources: [
      {host: node1}, {dcgm: "http://a:1", amd: "http://b:1"}, {dcgm: "n1:9400"}, {dcgm: "http://u:s3cret@a:1"},
      {amd: "http://a:0"}, {prometheus: "http://[::1"}, {nvml: "http://a:1"}, {smi: "http://a:1"}]}}"""
    one = "expected one of dcgm, nvidia_smi, amd, nvml, prometheus in each source"
    page = "expected the http URL of a page, got"
    assert errors(tmp_path, text) == [
        f"FILE: telemetry.gpu.sources[0].dcgm: {one}, got 0",
        f"FILE: telemetry.gpu.sources[1].amd: {one}, got 2",
        f'FILE: telemetry.gpu.sources[2].dcgm: {page} "n1:9400"',
        f"FILE: telemetry.gpu.sources[3].dcgm: {page} one with a user name",
        f'FILE: telemetry.gpu.sources[4].amd: {page} "http://a:0"',
        f'FILE: telemetry.gpu.sources[5].prometheus: {page} "http://[::1" (Invalid IPv6 URL)',
        'FILE: telemetry.gpu.sources[6].nvml: expected one of local or null, got "http://a:1"',
        "FILE: telemetry.gpu.sources[7].smi: unknown key",
        f"FILE: telemetry.gpu.sources[7].dcgm: {one}, got 0",
    ]


@pytest.mark.parametrize("name", ["node1:0", "GPU-00000002-1111", "llm/vllm-0"])
def test_names_of_gpus(tmp_path: Path, name: str) -> None:
    """By host and index, by UUID, by pod."""
    (entry,) = loaded(tmp_path, f"replicas: [{{url: 'http://a:1', gpus: ['{name}']}}]").replicas
    assert entry.gpus == (name,)
