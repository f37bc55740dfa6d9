"""One line for each way of being told, and a picture of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.lab.entrants import ENTRANTS
from gateway.lab.report import can_plot
from gateway.lab.setup import FOREVER, Setup, Throttle
from gateway.lab.simulate import Ended
from gateway.lab.sources import source
from gateway.lab.steering import BIN_S, draw, line, lines, told
from tests.lab.fleets import item

SETUP = Setup(replicas=2, throttles=(Throttle(1, 2.0, FOREVER, clock=0.3),), telemetry=True)


def test_only_what_tells_differs() -> None:
    fleets = told(SETUP)
    assert [(fleet.telemetry, fleet.learned) for fleet in fleets.values()] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    assert {replace(fleet, telemetry=True, learned=False) for fleet in fleets.values()} == {SETUP}


def test_a_line_is_of_arrivals() -> None:
    """Bin by bin; nobody arrived in the second one, and one that broke before its first token does not count."""
    ended = [Ended(item(at), 0, at + wait, 9.0, 0) for at, wait in ((0.0, 0.1), (0.5, 0.3), (2 * BIN_S, 0.2))]
    ended.append(Ended(item(0.1), 0, None, 9.0, None, "refused"))
    assert line(ended) == [(0.5 * BIN_S, pytest.approx(0.3)), (2.5 * BIN_S, pytest.approx(0.2))]


@pytest.mark.skipif(not can_plot(), reason="no matplotlib: pip install 'vllm-gateway[lab]'")
def test_a_picture(tmp_path: Path) -> None:
    begun: list[str] = []
    found = lines(source("rag"), 10.0, 4.0, 1, ENTRANTS["prefix"], SETUP, begun.append)
    assert begun == list(found) == list(told(SETUP))
    draw(found, SETUP, "rag", tmp_path / "steering.png")
    assert (tmp_path / "steering.png").read_bytes().startswith(b"\x89PNG")
