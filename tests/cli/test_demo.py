"""`gateway demo` as a process: traffic flows, GPUs get hot and cool down, Ctrl-C ends it all."""

import re
import signal

import httpx
import pytest

from tests.processes import Command, Serving, command

pytestmark = pytest.mark.slow


def report(demo: Command) -> tuple[int, int]:
    """How many requests failed, and how many there were, by the next line that tells."""
    while True:
        found = re.search(r"requests/s, .* failed (\d+) of (\d+)$", demo.line(""))
        if found:
            return int(found[1]), int(found[2])


def test_it_shows_traffic_and_a_hot_gpu() -> None:
    """It tells the dashboard's URL and what happens; nobody's request fails; Ctrl-C ends with 130 and no fleet."""
    with command("demo", "--rate", "20", "--calm", "0.1", "--hot", "0.1") as demo:
        gateway = Serving(demo)
        replicas = gateway.replicas()
        assert len(replicas) == 4
        for index in (0, 1):
            assert demo.line(f"emulated-{index}: ") == "its GPU is too hot and runs at 40% of its clock"
            assert demo.line(f"emulated-{index}: ") == "its GPU has cooled down"
        failed, requests = report(demo)
        assert failed == 0
        assert requests > 0
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(30) == 130
        assert "Traceback" not in demo.all()
        assert demo.log() == b""
        for url in replicas:
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/health", trust_env=False)


@pytest.mark.parametrize(
    ("arguments", "env", "sentence"),
    [
        (["--rate", "0"], {}, "argument --rate: expected a number above 0, got '0'"),
        (["--hot", "nan"], {}, "argument --hot: expected a number above 0, got 'nan'"),
        ([], {"GATEWAY_REPLICAS": "[{url: 'http://127.0.0.1:9'}]"}, "the demo starts its own replicas"),
        ([], {"GATEWAY_ROUTING__POLICY": "luck"}, "routing.policy"),
    ],
)
def test_what_it_cannot_do_is_a_usage_error(arguments: list[str], env: dict[str, str], sentence: str) -> None:
    """Exit code 2 and a sentence; nothing is started."""
    with command("demo", *arguments, **env) as demo:
        assert demo.process.wait(30) == 2
        assert sentence in demo.all()
