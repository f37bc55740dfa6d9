"""The dashboard in a real browser: what a person reads there."""

from collections.abc import Callable

import pytest

from gateway.api import admin_app
from gateway.api.dashboard import DashboardState
from gateway.api.vitals import EngineRow, SlowdownRow
from tests.api.fakes import dashboard, explanation, row
from tests.api.server import served
from tests.browser.conftest import Render
from tests.browser.page import Element, cells, parse

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EVIL = "<img src=x onerror=\"document.title='owned'\">&amp;'"


def opened(render: Render, state: Callable[[], DashboardState], token: str | None = None, query: str = "") -> Element:
    app = admin_app(
        render_metrics=lambda: b"", state=state, config=dict, explain=explanation, max_body_bytes=1000, token=token
    )
    with served(app) as url:
        return parse(render(f"{url}/dashboard{query}"))


def test_known_figures_are_shown_with_their_units(render: Render) -> None:
    """Milliseconds below a second, seconds above; large numbers in groups."""
    known = row(
        "r0", state="ready", models=["b", "a"], in_flight=3, requests=12345, failures=2, requests_per_s=4.25,
        tokens_per_s=1234.5, ttft_p50_s=0.0052, ttft_p95_s=1.5, tpot_p50_s=0.018,
    )  # fmt: skip
    page = opened(render, lambda: dashboard(known, in_flight=3, ttft_p50_s=0.25, requests=0))
    shown = cells(page)[0]
    assert shown["Replica"] in ("r0b, a", "r0 b, a")
    assert (shown["State"], shown["In flight"], shown["Requests"], shown["Failed"]) == ("ready", "3", "12,345", "2")
    assert (shown["TTFT p50"], shown["TTFT p95"], shown["TPOT p50"]) == ("5.2ms", "1.50s", "18ms")
    assert shown["Tokens/s"] == "1,235"
    totals = {dt.text: dd.text for dt, dd in zip(page.all("dt"), page.all("dd"), strict=True)}
    assert (totals["In flight"], totals["TTFT p50"], totals["Requests"]) == ("3", "250ms", "0")
    assert page.by_id("contact").text == "live"
    assert page.by_id("summary").text == "1 of 1 ready"
    assert "hidden" in page.by_id("lost").attributes


def test_pressure_and_slow_down(render: Render) -> None:
    """How full its KV cache is, in a word if it is short; how much slower than nominal it works."""
    hot = row(
        "r0",
        engine=EngineRow(age_s=0.1, kv_usage_ratio=0.931, kv_pressure="preempting"),
        slowdown=SlowdownRow(gpu=2.0, learned=None, used=2.0),
        gpus=[],
    )
    well = row("r1", engine=EngineRow(age_s=9.0), slowdown=SlowdownRow(gpu=None, learned=1.0, used=1.0), gpus=[])
    first, second = cells(opened(render, lambda: dashboard(hot, well)))
    assert (first["KV cache"], first["Slow-down"]) == ("93% preempting", "2.0×")
    assert (second["KV cache"], second["Slow-down"]) == ("–", "1.0×")


def test_unknown_is_a_dash_everywhere(render: Render) -> None:
    """Never 0, never null, never NaN."""
    page = opened(render, lambda: dashboard(row()))
    figures = {title: text for title, text in cells(page)[0].items() if title not in ("Replica", "State")}
    curves = {title: text for title, text in figures.items() if title.endswith("4 min")}
    assert set(curves.values()) == {""}
    assert {text for title, text in figures.items() if title not in curves} == {"–"}
    assert {dd.text for dd in page.all("dd")} == {"–"}
    assert "models not known" in cells(page)[0]["Replica"]
    assert {svg.attributes["aria-label"] for svg in page.by_id("replicas").all("svg")} == {
        "In flight, 4 min: nothing known yet",
        "TTFT p50, 4 min: nothing known yet",
    }


def test_names_are_text(render: Render) -> None:
    """A name, a model, a state or a policy that looks like markup is shown as it is."""
    page = opened(render, lambda: dashboard(row(EVIL, models=[EVIL], state=EVIL), policy=EVIL))
    shown = cells(page)[0]
    assert shown["Replica"].replace(" ", "") == (EVIL + EVIL).replace(" ", "")
    assert shown["State"] == EVIL
    assert EVIL in page.by_id("about").text
    assert page.all("img") == []
    assert page.all("title")[0].text == "0/1 ready · vllm-gateway"


def test_curves_are_drawn_and_changes_told(render: Render) -> None:
    """From what this page has polled; a change of state is in the list."""
    polls = iter(range(10**6))

    def state() -> DashboardState:
        poll = next(polls)
        return dashboard(row(state="ready" if poll < 2 else "ejected", in_flight=poll, ttft_p50_s=0.1 + poll / 100))

    page = opened(render, state)
    assert len(page.by_id("replicas").all("polyline")) == 2
    assert "r0: ready → ejected" in page.by_id("changes").text


def test_lost_contact_is_told_and_the_last_figures_stay(render: Render) -> None:
    """With the time of the last contact."""
    polls = iter(range(10**6))

    def state() -> DashboardState:
        if next(polls) > 1:
            raise RuntimeError("the gateway is broken")
        return dashboard(row(in_flight=7))

    page = opened(render, state)
    lost = page.by_id("lost")
    assert "hidden" not in lost.attributes
    assert lost.text.startswith("No contact since ")
    assert "status 500" in lost.text
    assert page.by_id("contact").text == "no contact"
    assert cells(page)[0]["In flight"] == "7"
    assert "contact lost" in page.by_id("changes").text


def test_contact_that_comes_back_is_told(render: Render) -> None:
    """The banner goes, the list remembers."""
    polls = iter(range(10**6))

    def state() -> DashboardState:
        if next(polls) == 1:
            raise RuntimeError("for once")
        return dashboard(row())

    page = opened(render, state)
    assert "hidden" in page.by_id("lost").attributes
    assert page.by_id("contact").text == "live"
    assert "contact again" in page.by_id("changes").text


def test_the_token_of_the_address_is_sent_as_a_header(render: Render) -> None:
    """The figures' path takes it in no other way."""
    page = opened(render, lambda: dashboard(row(in_flight=7)), token="t&ken", query="?token=t%26ken")
    assert cells(page)[0]["In flight"] == "7"


def test_draining_is_told(render: Render) -> None:
    """In words, not by colour alone."""
    page = opened(render, lambda: dashboard(row(), draining=True))
    assert "hidden" not in page.by_id("draining").attributes
    assert page.by_id("draining").text.startswith("Draining")


def test_replicas_come_and_go(render: Render) -> None:
    """A replica that left is off the table, and told of."""
    polls = iter(range(10**6))
    page = opened(render, lambda: dashboard(row("r1"), *([row("r0")] if next(polls) < 2 else [])))
    assert [shown["Replica"][:2] for shown in cells(page)] == ["r1"]
    assert "r0 left the fleet" in page.by_id("changes").text
