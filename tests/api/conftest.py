"""Clients of the two applications, over real sockets."""

import dataclasses
from collections.abc import Iterator

import httpx
import pytest

from gateway.api import admin_app, public_app
from gateway.core.fleet import Board
from gateway.core.types import ReplicaState
from tests.api.fakes import board_of, dashboard, explanation, row, view
from tests.api.server import served


@dataclasses.dataclass
class Public:
    """The public application's client, and what it stands on."""

    http: httpx.Client
    board: Board
    draining: bool = False


@pytest.fixture(scope="module")
def public_server() -> Iterator[Public]:
    """One server for a file's tests; `public` sets it back."""
    with httpx.Client(timeout=10) as http:
        fixture = Public(http, board_of())
        with served(public_app(fixture.board, lambda: fixture.draining)) as url:
            http.base_url = url
            yield fixture


@pytest.fixture
def public(public_server: Public) -> Public:
    """One replica is ready, one is out, one has never answered."""
    fleet = board_of(
        view("r0", ReplicaState.READY, {"m", "org/lora"}),
        view("r1", ReplicaState.EJECTED, {"m", "a"}),
        view("r2", ReplicaState.SUSPECT, None, seen_at=None),
    )
    public_server.board.publish(fleet.current)
    public_server.draining = False
    return public_server


@pytest.fixture(scope="module")
def admin() -> Iterator[httpx.Client]:
    """The admin application without a token."""
    app = admin_app(
        render_metrics=lambda: b"gateway_up 1\n",
        state=lambda: dashboard(row("r0", in_flight=3), row("r1")),
        config=lambda: {"admin": {"token": "***"}},
        explain=explanation,
        max_body_bytes=1000,
        token=None,
    )
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as http:
        yield http
