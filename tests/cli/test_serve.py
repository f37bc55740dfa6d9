"""`gateway serve` as a process: what it prints, what it serves, and how it ends."""

import json
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.processes import Serving, command, serving

pytestmark = pytest.mark.slow

LONG = {"model": "emulated", "stream": True, "max_tokens": 150, "messages": [{"role": "user", "content": "Hello!"}]}


def streamed_text(lines: list[str]) -> str:
    """The text of a chat stream, which must have come to its end."""
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    chunks = [json.loads(event) for event in data[:-1]]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def assert_fleet_is_gone(replicas: list[str]) -> None:
    for url in replicas:
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health", trust_env=False)


def test_the_line_to_paste_gives_a_streamed_completion() -> None:
    """Without a config: an emulated fleet, the API's and the dashboard's URL, and a curl line that works."""
    with serving() as gateway:
        assert "no replicas are configured: serving an embedded fleet of 4 emulated ones\n" in gateway.command.said
        (gpus,) = [line.split()[1] for line in gateway.command.said if line.startswith("GPUs ")]
        assert httpx.get(gpus, trust_env=False).text.count("DCGM_FI_DEV_SM_CLOCK{") == 4
        assert httpx.get(gateway.dashboard_url, trust_env=False).status_code == 200
        program, flag, url, header_flag, header, data_flag, body = gateway.curl
        assert (program, flag, header_flag, data_flag) == ("curl", "-N", "-H", "-d")
        assert url == f"{gateway.api_url}/chat/completions"
        with httpx.stream(
            "POST", url, headers=[tuple(header.split(": "))], content=body, timeout=30, trust_env=False
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert streamed_text(list(answer.iter_lines())) != ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_the_stream_finish_then_ends_all(number: signal.Signals, code: int) -> None:
    """SIGTERM ends with 0 and Ctrl-C with 130, after the running stream; the embedded fleet ends too."""
    with serving() as gateway:
        replicas = gateway.replicas()
        with httpx.stream(
            "POST", f"{gateway.api_url}/chat/completions", json=LONG, timeout=30, trust_env=False
        ) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            gateway.command.process.send_signal(number)
            assert streamed_text([first, *lines]) != ""
        assert gateway.command.process.wait(30) == code
        assert "Traceback" not in gateway.command.all()
        assert_fleet_is_gone(replicas)
        (line,) = gateway.command.log().splitlines()
        assert json.loads(line)["status"] == 200


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    """Whoever presses Ctrl-C twice does not want to wait for streams."""
    with serving() as gateway:
        endless = LONG | {"max_tokens": 20000, "ignore_eos": True}
        with httpx.stream(
            "POST", f"{gateway.api_url}/chat/completions", json=endless, timeout=30, trust_env=False
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            gateway.command.process.send_signal(signal.SIGINT)
            while "Shutting down" not in gateway.command.line(""):  # uvicorn tells of the first
                pass
            gateway.command.process.send_signal(signal.SIGINT)
            assert gateway.command.process.wait(30) == 130
        assert "Traceback" not in gateway.command.all()


def test_a_killed_gateway_takes_its_fleet_along() -> None:
    """After kill -9 nobody can tidy up: the fleet notices by itself that its parent is gone."""
    with serving() as gateway:
        replicas = gateway.replicas()
        gateway.command.process.kill()
        gateway.command.all()
        assert_fleet_is_gone(replicas)


@pytest.mark.parametrize("key", ["GATEWAY_SERVER__PORT", "GATEWAY_ADMIN__PORT"])
def test_a_taken_port_is_said_in_one_line(key: str) -> None:
    """Exit code 2, the address, and no traceback; nothing of the fleet stays behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command("serve", **{key: str(port)}) as started:
            assert started.process.wait(30) == 2
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use\n" in started.all()
            assert "Traceback" not in started.all()


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_a_port_that_cannot_be_is_a_usage_error(port: str) -> None:
    """Exit code 2, before anything has been started."""
    with command("serve", "--port", port) as started:
        assert started.process.wait(30) == 2
        assert f"argument --port: expected a port from 0 (any free one) to 65535, got '{port}'" in started.all()
        assert "embedded fleet" not in started.all()


def test_options_go_over_the_config(tmp_path: Path) -> None:
    """`--host` and `--port` win over the file and the environment."""
    file = tmp_path / "gateway.yaml"
    file.write_text("server: {host: 192.0.2.1, port: 1}\n", encoding="utf-8")
    with serving("-c", str(file), "--host", "127.0.0.1", "--port", "0") as gateway:
        assert gateway.api_url.startswith("http://127.0.0.1:")


def test_a_bad_config_lists_all_errors(tmp_path: Path) -> None:
    """Exit code 2; one line for each error, with the file and the key; nothing was started."""
    file = tmp_path / "gateway.yaml"
    file.write_text("server: {port: high, colour: red}\nresilience: {max_attempts: 0}\n", encoding="utf-8")
    with command("serve", "-c", str(file)) as started:
        assert started.process.wait(30) == 2
        said = started.all()
        for key in ("server.colour", "resilience.max_attempts"):
            assert f"{file}: {key}" in said
        assert "Traceback" not in said
        assert "embedded fleet" not in said


def test_configured_replicas_are_served_and_no_fleet_is_started() -> None:
    """With replicas in the config, those are the fleet."""
    with serving() as fleet, serving(GATEWAY_REPLICAS=f"[{{url: {fleet.replicas()[0]}, name: only}}]") as gateway:
        assert not any("embedded" in line for line in gateway.command.said)
        answer = ask(gateway)
        assert answer.headers["x-gateway-replica"] == "only"


def ask(gateway: Serving) -> httpx.Response:
    body = LONG | {"stream": False, "max_tokens": 5}
    return httpx.post(f"{gateway.api_url}/chat/completions", json=body, timeout=30, trust_env=False)
