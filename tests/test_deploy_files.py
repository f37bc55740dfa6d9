"""The files in config/ for compose, Prometheus and Grafana, as far as can be told without Docker or a network."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import load

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
COMPOSE = CONFIG / "compose/compose.yaml"
ALERTS = CONFIG / "prometheus/alerts.yml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")

ROWS = re.findall(r"^\| `(gateway_\w+)` \| \w+[^|]*\| ([^|]*) \|", (ROOT / "docs/metrics.md").read_text("utf-8"), re.M)
EXPORTED = {name: {label.strip(" `") for label in re.split(r"[,/(]", labels)} - {"-", ""} for name, labels in ROWS}
SCRAPED = {"instance", "job", "le"}
"""Labels that Prometheus itself gives, and those of buckets."""


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


DASHBOARD = json.loads((CONFIG / "grafana/dashboards/gateway.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in parsed(ALERTS)["groups"] for rule in group["rules"]]
EXPRESSIONS = {f"alert {rule['alert']}": rule["expr"] for rule in RULES} | {
    f"panel {panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}


def base(name: str) -> str:
    """The metric that a series belongs to."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_the_documentation_is_read_rightly() -> None:
    """The page of metrics has labels for each name."""
    assert EXPORTED["gateway_requests_total"] == {"model", "replica", "code", "class"}
    assert EXPORTED["gateway_avoidable_prefill_tokens_total"] == set()
    assert len(EXPORTED) > 10


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_series_exists_with_its_labels(where: str) -> None:
    """A name or label that the gateway does not export would be an empty panel, or an alert that never comes."""
    expression = EXPRESSIONS[where]
    names = set(re.findall(r"\bgateway_\w+", expression))
    assert names or "up{" in expression
    assert {base(name) for name in names} <= EXPORTED.keys()
    known = set().union(*(EXPORTED[base(name)] for name in names)) | SCRAPED
    grouped = re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", expression)
    used = {label.strip() for labels in grouped for label in labels.split(",")}
    used |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    assert used <= known


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """A severity that is known, one sentence, and labels in it that the series has."""
    assert rule["labels"]["severity"] in ("page", "warn")
    assert rule["annotations"]["summary"].endswith(".")
    words = " ".join(rule["annotations"].values())
    names = re.findall(r"\bgateway_\w+", rule["expr"])
    known = set().union(*(EXPORTED[base(name)] for name in names)) | SCRAPED
    assert set(re.findall(r"\$labels\.(\w+)", words)) <= known


def test_what_to_be_alarmed_of() -> None:
    """Throttling, KV pressure, TTFT and the age of telemetry have an alert and a panel each."""
    alerts = " ".join(rule["expr"] for rule in RULES)
    panels = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    for name in (
        "gateway_gpu_throttled",
        "gateway_replica_kv_usage_ratio",
        "gateway_time_to_first_token_seconds_bucket",
        "gateway_telemetry_age_seconds",
        "gateway_replica_state",
    ):
        assert name in alerts
        assert name in panels


# Prometheus


def test_what_prometheus_scrapes_is_in_the_compose_file() -> None:
    """Targets are services; the token's file is a secret that the service has; the rules are mounted beside it."""
    services = parsed(COMPOSE)["services"]
    config = parsed(CONFIG / "prometheus/prometheus.yml")
    targets = [
        target for job in config["scrape_configs"] for static in job["static_configs"] for target in static["targets"]
    ]
    assert {target.partition(":")[0] for target in targets} <= services.keys()
    gateway = next(job for job in config["scrape_configs"] if job["job_name"] == "gateway")
    secret = Path(gateway["authorization"]["credentials_file"])
    assert secret.parent == Path("/run/secrets")
    assert secret.name in services["prometheus"]["secrets"]
    for file in config["rule_files"]:
        assert any(f"/etc/prometheus/{file}:" in volume for volume in services["prometheus"]["volumes"])


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    """Prometheus' own check of their syntax."""
    done = subprocess.run([str(PROMTOOL), "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_come_when_they_should(tmp_path: Path) -> None:
    """And only then: made-up series, and what they lead to."""
    file = tmp_path / "alerts_test.yml"
    file.write_text((ROOT / "tests/alerts.yml").read_text("utf-8").replace("ALERTS", str(ALERTS)), "utf-8")
    done = subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_the_panels_expressions(tmp_path: Path) -> None:
    """Each as a recording rule, with Grafana's variables filled in."""
    rules = [
        {"record": f"panel:{number}", "expr": _filled(expression)}
        for number, expression in enumerate(EXPRESSIONS.values())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    done = subprocess.run([str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _filled(expression: str) -> str:
    return expression.replace("$__rate_interval", "1m").replace("$replica", ".*")


# Grafana


def test_the_panels_of_the_dashboard() -> None:
    """Each has an id of its own, a place of its own, a title, and targets that the data source variable answers."""
    panels = DASHBOARD["panels"]
    ids = [panel["id"] for panel in panels]
    assert sorted(ids) == sorted(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells
        assert place["x"] + place["w"] <= 24
        cells |= own
    titles = [panel["title"] for panel in PANELS]
    assert sorted(titles) == sorted(set(titles))
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_the_variables_of_the_dashboard_are_defined() -> None:
    """What an expression refers to is a variable, or Grafana's own."""
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(DASHBOARD)))
    assert used - {"__rate_interval", "__all"} == variables


def test_grafana_finds_its_data_source_and_its_dashboard() -> None:
    """The provisioning's paths are where the compose file mounts things."""
    provisioning = CONFIG / "grafana/provisioning"
    (source,) = parsed(provisioning / "datasources/prometheus.yml")["datasources"]
    (provider,) = parsed(provisioning / "dashboards/gateway.yml")["providers"]
    compose = parsed(COMPOSE)
    assert source["url"] == "http://prometheus:9090"
    assert source["name"] == DASHBOARD["templating"]["list"][0]["current"]["text"]
    grafana = compose["services"]["grafana"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (CONFIG / "grafana/dashboards" / home.name).exists()


# compose


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = parsed(COMPOSE)["services"]
    return found


def test_what_is_mounted_exists() -> None:
    """Docker makes an empty folder of a file that is missing."""
    named = parsed(COMPOSE)["volumes"].keys()
    for service in services().values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in named or (COMPOSE.parent / source).exists(), volume


def test_images_have_versions_and_ports_stay_at_home() -> None:
    """No `latest`; nothing listens on all addresses; each secret must be given."""
    for name, service in services().items():
        if "build" not in service:
            assert re.search(r":[\w.-]*\d[\w.-]*\}?$", service["image"]), name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
    text = COMPOSE.read_text("utf-8")
    for secret in ("ADMIN_TOKEN", "VLLM_API_KEY", "GRAFANA_PASSWORD"):
        assert f"${{{secret}:?" in text


def test_the_flags_of_vllm() -> None:
    """Right for V1: what old articles say is refused, and what the gateway uses is on. Source: vLLM 0.32's own help."""
    for name in ("vllm-0", "vllm-1"):
        model, *flags = services()[name]["command"]
        assert not model.startswith("-"), "the image's entry point is `vllm serve`"
        given = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)
        assert given["quantization"] == "fp8"
        assert given["scheduling-policy"] == "priority"
        assert "enable-prompt-tokens-details" in given
        assert not {"dtype", "swap-space", "disable-log-requests", "model"} & given.keys()
        grace = float(services()[name]["stop_grace_period"].removesuffix("s"))
        assert grace > float(given["shutdown-timeout"])


def test_the_gateways_own_config() -> None:
    """It loads with the variables that the service gets; its replicas are services, each with a GPU of its own."""
    config = load(CONFIG / "compose/gateway.yaml", {"ADMIN_TOKEN": "t", "VLLM_API_KEY": "k"})
    given = services()["gateway"]["environment"]
    assert set(re.findall(r"\$\{(\w+)\}", (CONFIG / "compose/gateway.yaml").read_text("utf-8"))) <= given.keys()
    assert [entry.url for entry in config.replicas] == ["http://vllm-0:8000", "http://vllm-1:8000"]
    gpus = []
    for entry in config.replicas:
        assert entry.id in services()
        assert entry.api_key == "k"
        (device,) = services()[entry.id]["deploy"]["resources"]["reservations"]["devices"]
        assert [gpu.rpartition(":")[2] for gpu in entry.gpus] == device["device_ids"]
        gpus += device["device_ids"]
    assert len(set(gpus)) == len(gpus)
    assert float(services()["gateway"]["stop_grace_period"].removesuffix("s")) > config.server.drain_timeout_s


def test_the_counters_of_dcgm() -> None:
    """Three columns, each field once, and the throttle reasons, which the exporter's own list does not have."""
    path = CONFIG / "compose/dcgm-counters.csv"
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    rows = [[column.strip() for column in line.split(",")] for line in lines]
    assert all(len(row) == 3 and row[1] in ("gauge", "counter") and row[2] for row in rows)
    fields = [row[0] for row in rows]
    assert sorted(fields) == sorted(set(fields))
    assert {"DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_SM_CLOCK", "DCGM_FI_DEV_GPU_UTIL"} <= set(fields)
    exporter = services()["dcgm-exporter"]
    collectors = exporter["environment"]["DCGM_EXPORTER_COLLECTORS"]
    assert f"./{path.name}:{collectors}:ro" in exporter["volumes"]
