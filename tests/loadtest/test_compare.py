"""The pure parts of `make compare`: the same load for everyone, and figures that say what happened."""

import json
from pathlib import Path

import pytest
import yaml

from gateway.emulator import prompts
from gateway.emulator.prompts import Served
from loadtest.compare.client import Outcome
from loadtest.compare.peers import PEERS, gateways, render
from loadtest.compare.report import best, figures, plot, shares, table
from loadtest.compare.scenarios import Ran
from loadtest.compare.workload import Planned, plan

LOAD = {"rate_per_s": 5.0, "duration_s": 20.0}
ASKED = Planned(10.0, b"", 11)


def body(planned: Planned) -> bytes:
    return planned.raw.partition(b"\r\n\r\n")[2]


def ran(*outcomes: Outcome, peer: str = "gateway", speed: float = 1.0) -> Ran:
    return Ran(peer, "steady", list(outcomes), 5.0, speed, 20.0, 0.5, 2.0, 1.0, 3)


def answered(first_s: float = 10.2, end_s: float | None = 10.4, *, whole: bool = True) -> Outcome:
    return Outcome(ASKED, 10.0, first_s, end_s, 200, 10, whole, 100, 60)


def test_a_seed_is_a_load() -> None:
    """The same bytes at the same moments, in every process; another seed is another load."""
    assert plan("characters", **LOAD, seed=1) == plan("characters", **LOAD, seed=1)
    assert plan("characters", **LOAD, seed=1) != plan("characters", **LOAD, seed=2)


def test_a_request_has_the_tokens_of_its_trace() -> None:
    """The emulator counts nearly what the trace says (its template adds some), and requests share their beginnings."""
    asked = plan("characters", **LOAD, seed=1)
    served = Served(("emulated",), 32768, ())
    counts = [prompts.chat(body(one), served).prompt_tokens for one in asked]
    assert all(1500 <= count < 32768 for count in counts)
    systems = [json.loads(body(one))["messages"][0]["content"] for one in asked]
    assert 1 < len(set(systems)) < len(systems)
    assert prompts.chat(body(asked[0]), served).limits.max_tokens == asked[0].output_tokens


def test_answers_may_be_cut_short() -> None:
    """The same prompts, and at most so many tokens of each answer."""
    whole, cut = (plan("characters", **LOAD, seed=1, most_tokens=most) for most in (None, 3))
    assert [json.loads(body(one))["messages"] for one in cut] == [json.loads(body(one))["messages"] for one in whole]
    assert {one.output_tokens for one in cut} == {3} == {json.loads(body(one))["max_tokens"] for one in cut}


def test_the_figures_of_good_requests() -> None:
    """TTFT from the send, hits by tokens; CPU over all requests and over all chunks."""
    row = figures(ran(answered(), answered(first_s=10.3)))
    assert (row.requests, row.errors, row.broken, row.preemptions) == (2, 0, 0, 3)
    assert row.ttft_p50_s == pytest.approx(0.2)
    assert row.ttft_p99_s == pytest.approx(0.3)
    assert row.hit_ratio == pytest.approx(0.6)
    assert row.goodput_ratio == 1
    assert row.request_us == pytest.approx(250_000)
    assert row.chunk_us == pytest.approx(25_000)


def test_what_was_due_in_the_warm_up_is_not_counted() -> None:
    """By when it was due, in the engine's time."""
    early = Outcome(Planned(4.9, b"", 1), 4.9, 5.0, 5.1, 200, 1, True, 10, 0)
    assert figures(ran(early, answered())).requests == 1
    assert figures(ran(early)).ttft_p50_s is None


@pytest.mark.parametrize(
    ("outcome", "errors", "broken", "good"),
    [
        (answered(), 0, 0, 1),
        (answered(first_s=10.6, end_s=10.7), 0, 0, 0),  # too late
        (answered(end_s=10.8), 0, 0, 0),  # too slow: 60 ms a token
        (answered(whole=False), 0, 1, 0),
        (answered(end_s=None, whole=False), 0, 0, 1),  # it was still running
        (Outcome(ASKED, 10.0, None, 10.1, 503), 1, 0, 0),
        (Outcome(ASKED, 10.0, None, None, None), 1, 0, 0),
    ],
)
def test_what_counts_as_what(outcome: Outcome, errors: int, broken: int, good: float) -> None:
    """An error before the first output, a break after it; neither is a request that was still running at the end."""
    row = figures(ran(outcome))
    assert (row.errors, row.broken, row.goodput_ratio) == (errors, broken, good)


def test_durations_are_the_engines() -> None:
    """At half speed a wall second is half a second of the engine."""
    asked = Planned(5.0, b"", 11)
    outcome = Outcome(asked, 10.0, 10.2, 10.4, 200, 10, True, 100, 60)
    assert figures(ran(outcome, speed=0.5)).ttft_p50_s == pytest.approx(0.1)


def test_the_report(tmp_path: Path) -> None:
    """A row a run, a dash for what is not known; the best peer is named; the plot is drawn."""
    peer = ran(answered(first_s=10.4), peer="nginx")
    nobody = ran(peer="Envoy")
    runs = [ran(answered()), peer, nobody]
    rows = [figures(one) for one in runs]
    lines = table(rows).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| steady | gateway | 1 | 200 | 200 | 0.60 | 100.0 % |")
    assert lines[4].startswith("| steady | Envoy | 0 | – |")
    assert best(rows) == ["steady: 0.50 of the best peer's p99 TTFT (nginx)"]
    assert "load generator 5% to 5%" in shares(runs)
    assert "0 ms late at p99" in shares(runs)
    plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_the_gateway_alone_with_each_policy() -> None:
    """Each has its policy in the config; a name that does not exist is refused with those that do."""
    for peer in gateways(["prefix", "round_robin"]):
        template = (Path("loadtest/compare") / (peer.config or "")).read_text("utf-8")
        assert peer.name == f"gateway {peer.balance}"
        assert f"routing: {{policy: {peer.balance}}}" in render(template, {"BALANCE": peer.balance})
    with pytest.raises(ValueError, match="'best'; there are prefix, "):
        gateways(["prefix", "best"])


def test_a_template_is_filled_in() -> None:
    """What has several lines keeps the indentation of where it stands."""
    assert render("a @X@\n  - @Y@\n", {"X": "1", "Y": "2\n3"}) == "a 1\n  - 2\n  3\n"


@pytest.mark.parametrize("peer", [peer for peer in PEERS if (peer.config or "").endswith(".yaml")])
def test_a_yaml_template_is_yaml(peer) -> None:
    """With two replicas in it."""
    servers = [peer.server.format(host=f"127.0.0.1:{n}", number=n, ip="127.0.0.1", port=n, gpus=n) for n in (1, 2)]
    values = {
        "PORT": "80",
        "SPARE": "81",
        "GPUS": "http://x/metrics",
        "BALANCE": "prefix",
        "SERVERS": "\n".join(servers),
    }
    text = render((Path("loadtest/compare") / peer.config).read_text("utf-8"), values)
    assert "127.0.0.1:2" in str(yaml.safe_load(text)).replace("'address': '127.0.0.1', 'port_value': 2", "127.0.0.1:2")
