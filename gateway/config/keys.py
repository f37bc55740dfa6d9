"""Every key of the config as structs with its default and its range; CONTRACT section 3 lists the same keys.

The two tables at the end say what this version does not do.
"""

from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta, Struct, field

from gateway.core.types import Replica, ReplicaId

SECRETS = frozenset({"api_key", "token", "key_sha256"})
"""Names of keys whose value is never shown."""

POLICIES: dict[str, tuple[str, ...]] = {
    "least_load": (),
    "power_of_two": (),
    "prefix": ("g", "k", "e", "w", "theta"),
    "random": (),
    "round_robin": (),
    "session": ("load_factor",),
    "system_prompt": ("load_factor",),
}
"""Every policy that `routing.policy` may name, with the parameters it takes; each parameter is a field of `Routing`."""

# The ranges: what a value may be, and the words an error says it with.
Port = Annotated[int, Meta(ge=0, le=65535, description="a port from 0 (any free one) to 65535")]
RealPort = Annotated[int, Meta(ge=1, le=65535, description="a port from 1 to 65535")]
Count = Annotated[int, Meta(ge=1, le=2**40, description="a whole number of at least 1")]
CountOrZero = Annotated[int, Meta(ge=0, le=2**40, description="a whole number of at least 0")]
Rank = Annotated[int, Meta(ge=-1000, le=1000, description="a whole number from -1000 to 1000")]
Seconds = Annotated[float, Meta(gt=0, le=86400, description="a number of seconds above 0, at most 86400")]
HedgeAfter = Annotated[
    Annotated[float, Meta(gt=0, le=86400)] | Literal["p95"] | None,
    Meta(description="a number of seconds above 0, at most 86400, `p95`, or null"),
]
NotNegative = Annotated[float, Meta(ge=0, le=1e9, description="a number of at least 0")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
AtLeastOne = Annotated[float, Meta(ge=1, le=1e9, description="a number of at least 1")]
Text = Annotated[str, Meta(min_length=1, description="a string that is not empty")]
UrlPath = Annotated[str, Meta(pattern="^/[^ ?#]*$", description="a path that begins with /")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:\[\]-]{1,128}$", description="letters, digits and . _ : -")]
Gpu = Annotated[
    str,
    Meta(
        pattern=r"^([^: /]+:[0-9]+|[^: /]{8,}|[^: /]+/[^: /]+)$",
        description="HOST:INDEX, a GPU UUID or NAMESPACE/POD",
    ),
]
Origin = Annotated[
    str,
    Meta(
        pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s*@A-Z]+)$",
        description="an origin in lower case, such as https://chat.example.com, or *",
    ),
]
Secret = Annotated[str, Meta(min_length=1, pattern=r"^[!-~]+$", description="printable ASCII without spaces")]
FreeForm = Annotated[dict[str, object], Meta(description="a mapping")]


def hidden(name: str, value: object) -> object:
    """The value, or `***` in place of a secret."""
    return "***" if name in SECRETS and value is not None else value


def host_port(parts: SplitResult) -> str:
    """`host:port` of a URL, the scheme's own port if it names none; IPv6 addresses keep their brackets."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


class Section(Struct, frozen=True, kw_only=True):
    """A part of the config. Its repr never shows a secret."""

    def __repr__(self) -> str:
        pairs = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (f"{name}={hidden(name, value)!r}" for name, value in pairs)
        return f"{type(self).__name__}({', '.join(shown)})"


class Tls(Section, frozen=True):
    cert: Text | None = None
    key: Text | None = None
    client_ca: Text | None = None


class Server(Section, frozen=True):
    host: Text = "127.0.0.1"
    port: Port = 8080
    workers: Count = 1
    max_body_bytes: Count = 67108864
    request_read_timeout_s: Seconds = 30.0
    drain_timeout_s: Seconds = 120.0
    cors_origins: tuple[Origin, ...] = ()
    tls: Tls = Tls()


class Admin(Section, frozen=True):
    host: Text = "127.0.0.1"
    port: Port = 9090
    token: Secret | None = None


class ReplicaConfig(Section, frozen=True):
    """One entry of `replicas`."""

    url: Text
    name: Name | None = None
    engine: Literal["vllm", "sglang", "openai"] = "vllm"
    gpus: tuple[Gpu, ...] = ()
    api_key: Secret | None = None
    cost_per_hour: NotNegative | None = None

    @property
    def id(self) -> ReplicaId:
        """`name`, or `host:port` of the URL."""
        return ReplicaId(self.name or host_port(urlsplit(self.url)))

    def replica(self) -> Replica:
        """The same as the core knows it: the URL is exactly scheme, host and port."""
        parts = urlsplit(self.url)
        url = f"{parts.scheme}://{host_port(parts)}"
        return Replica(self.id, url, self.engine, self.gpus, self.api_key, self.cost_per_hour)


class Kubernetes(Section, frozen=True):
    namespace: Text | None = None
    selector: Text | None = None
    port: RealPort | None = None


class Discovery(Section, frozen=True):
    """Where replicas are found; one of `dns`, `file` and `kubernetes.selector`, or none."""

    dns: Text | None = None
    file: Text | None = None
    kubernetes: Kubernetes = Kubernetes()
    port: RealPort | None = None
    interval_s: Seconds = 10.0
    engine: Literal["vllm", "sglang", "openai"] = "vllm"
    api_key: Secret | None = None


class Routing(Section, frozen=True):
    """The policy and its parameters; `None`: the policy's own default."""

    policy: str = "prefix"
    g: NotNegative | None = None
    k: NotNegative | None = None
    e: NotNegative | None = None
    w: NotNegative | None = None
    theta: Share | None = None
    load_factor: AtLeastOne | None = None

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters that the config gives."""
        given = ((name, getattr(self, name)) for name in POLICIES[self.policy])
        return {name: value for name, value in given if value is not None}


class EngineTelemetry(Section, frozen=True):
    interval_s: Seconds = 0.25
    timeout_s: Seconds = 1.0
    stale_after_s: Seconds = 3.0


class GpuSource(Section, frozen=True):
    """One entry of `telemetry.gpu.sources`: one kind with its URL, and the machine's name in `replicas[].gpus`."""

    dcgm: Text | None = None
    nvidia_smi: Text | None = None
    amd: Text | None = None
    nvml: Literal["local"] | None = None
    prometheus: Text | None = None
    host: Text | None = None

    @property
    def kinds(self) -> dict[str, str]:
        """Kind -> URL, of those that are given; a right entry has one."""
        given = ((name, getattr(self, name)) for name in GPU_SOURCES)
        return {name: value for name, value in given if value is not None}


GPU_SOURCES = ("dcgm", "nvidia_smi", "amd", "nvml", "prometheus")


class GpuTelemetry(Section, frozen=True):
    interval_s: Seconds = 1.0
    stale_after_s: Seconds = 10.0
    sources: tuple[GpuSource, ...] = ()


class Telemetry(Section, frozen=True):
    engine: EngineTelemetry = EngineTelemetry()
    gpu: GpuTelemetry = GpuTelemetry()
    learned: bool = True


class WarmUp(Section, frozen=True):
    prompts: CountOrZero = 16
    max_s: Seconds = 30.0


class Probe(Section, frozen=True):
    interval_s: Seconds = 2.0
    path: UrlPath = "/health"
    fall: Count = 3
    rise: Count = 2


class Resilience(Section, frozen=True):
    connect_timeout_s: Seconds = 2.0
    first_token_timeout_s: Seconds = 120.0
    idle_timeout_s: Seconds = 60.0
    max_attempts: Count = 3
    resume: Literal["exact", "text", "off"] = "exact"
    hedge_after_s: HedgeAfter = None
    warm_up: WarmUp = WarmUp()
    probe: Probe = Probe()


class Admission(Section, frozen=True):
    max_queue: CountOrZero = 1000
    max_wait_s: Seconds = 30.0
    classes: dict[str, Rank] = field(default_factory=lambda: {"interactive": 0, "standard": 1, "batch": 2})


class Models(Section, frozen=True):
    aliases: dict[str, Text] = field(default_factory=dict)


class State(Section, frozen=True):
    url: Text | None = None


class Logging(Section, frozen=True):
    format: Literal["json", "text"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"
    prompts: Literal["never"] = "never"


class Tracing(Section, frozen=True):
    otlp_endpoint: Text | None = None


class Config(Section, frozen=True):
    """Everything that can be set, at its default unless set."""

    server: Server = Server()
    admin: Admin = Admin()
    replicas: tuple[ReplicaConfig, ...] = ()
    discovery: Discovery = Discovery()
    routing: Routing = Routing()
    telemetry: Telemetry = Telemetry()
    resilience: Resilience = Resilience()
    admission: Admission = Admission()
    tenants: tuple[FreeForm, ...] = ()
    models: Models = Models()
    state: State = State()
    logging: Logging = Logging()
    tracing: Tracing = Tracing()


NOT_YET: dict[str, tuple[object, ...]] = {
    "tenants": (),
    "state.url": (),
    "logging.prompts": (),
    "tracing.otlp_endpoint": (),
}
"""Keys whose feature is not built: any value but the default, and those listed, is an error. Shrinks over time."""

NOT_EFFECTIVE: tuple[str, ...] = (
    "replicas.cost_per_hour",
    "admission.max_queue",
    "admission.max_wait_s",
)
"""Keys, or whole sections, that are accepted and change nothing yet; `ineffective` tells which a config sets."""
