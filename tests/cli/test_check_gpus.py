"""`gateway check` tells which GPU of which replica is shown by whom, and what an operator must add."""

import json
from pathlib import Path

import anyio
import pytest

from gateway.cli import main
from gateway.cli.check import look_at_all
from gateway.config import load
from tests.cli.test_check import GOOD, serving

GOLDEN = Path(__file__).parent.parent / "telemetry" / "golden"


def page(name: str) -> dict[str, tuple[int, str]]:
    return {"/metrics": (200, (GOLDEN / f"{name}.prom").read_text("utf-8"))}


def write(tmp_path: Path, replica: str, gpus: str, *sources: str) -> str:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"replicas: [{{url: '{replica}', name: r0, gpus: {gpus}}}]\n"
        f"telemetry: {{gpu: {{sources: [{', '.join(sources)}]}}}}\n",
        encoding="utf-8",
    )
    return str(file)


def test_the_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By host and index, by UUID, by pod: each with its source and what it shows."""
    with serving(GOOD) as replica, serving(page("dcgm_h100")) as exporter:
        gpus = "['node1:0', 'GPU-00000002-1111-2222-3333-444444444444', 'llm/vllm-1']"
        file = write(tmp_path, replica, gpus, f"{{dcgm: '{exporter}', host: node1}}")
        assert main(["check", "-c", file]) == 0
    sources, *mapping = capsys.readouterr().out.split("\n\n")[1:]
    source = f"dcgm {exporter} (node1)"
    assert [line.split() for line in sources.splitlines()[1:]] == [[*source.split(), "ok", "4", "yes"]]
    heads, *rows = mapping[0].splitlines()
    assert heads.split("  ")[0] == "REPLICA"
    assert [row.split()[1] for row in rows] == [
        "node1:0",
        "GPU-00000002-1111-2222-3333-444444444444",
        "00000002-1111-2222-3333-444444444444",
        "00000003-1111-2222-3333-444444444444",
    ]
    assert rows[0].endswith("48 °C        1980 MHz  nothing")
    assert rows[1].endswith("87 °C        1230 MHz  hw_thermal,sw_thermal")


def test_what_must_be_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """dcgm-exporter's default counters show no reasons: the lines to add; that is not wrong, it only sees less."""
    with serving(GOOD) as replica, serving(page("dcgm_h100_default_csv")) as exporter:
        file = write(tmp_path, replica, "['n:0']", f"{{dcgm: '{exporter}', host: n}}")
        assert main(["check", "-c", file]) == 0
    out = capsys.readouterr().out
    assert "does not tell why clocks are low: throttling will not be seen." in out
    assert "\n  DCGM_FI_DEV_CLOCKS_EVENT_REASONS, gauge, " in out


def test_what_no_source_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name of the config that nobody knows, and a source that does not answer: both are wrong."""
    with serving(GOOD) as replica, serving(page("nvidia_gpu_exporter")) as exporter, serving({}) as dead:
        sources = (f"{{nvidia_smi: '{exporter}'}}", f"{{amd: '{dead}'}}")
        file = write(tmp_path, replica, "['n:7']", *sources)
        assert main(["check", "-c", file, "--format", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [(source["state"], source["problem"]) for source in answer["gpu_sources"]] == [
        ("ok", None),
        ("wrong", "status 404"),
    ]
    assert [(gpu["gpu"], gpu["source"]) for gpu in answer["gpus"]] == [("n:7", None)]


def test_gpus_without_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is looked at, which is said and is not wrong; a source without GPUs of the config is no fault either."""
    with serving(GOOD) as replica, serving(page("amd_exporter")) as exporter:
        assert main(["check", "-c", write(tmp_path, replica, "['n:7']")]) == 0
        out = capsys.readouterr().out
        assert "no source shows it" in out
        assert out.endswith("note: telemetry.gpu.sources is empty: no GPU is looked at\n")
        assert main(["check", "-c", write(tmp_path, replica, "[]", f"{{amd: '{exporter}'}}")]) == 0
    assert "REPLICA" not in capsys.readouterr().out


def test_a_silent_source_does_not_hang_the_check() -> None:
    """NVML on a machine without a driver, or a URL where nobody is."""
    config = load(None, {"GATEWAY_TELEMETRY__GPU__SOURCES": "[{nvml: local}, {dcgm: 'http://127.0.0.1:1'}]"})
    _, report = anyio.run(look_at_all, config, 5.0)
    assert [source.state for source in report.sources] == ["wrong", "wrong"]
    assert not report.fine
