"""The commands for one replica, as a script sends them; and as a page of another site might."""

from collections.abc import Iterator

import httpx
import pytest

from gateway.api import admin_app
from gateway.core.types import Sign
from tests.api.fakes import dashboard, explanation, row
from tests.api.server import served
from tests.api.shapes import assert_openai_error

NAMES = ["r0", "[::1]:8000"]
told: list[tuple[str, Sign]] = []


def command(name: str, sign: Sign) -> bool:
    if name in NAMES:
        told.append((name, sign))
    return name in NAMES


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    rows = dashboard(*(row(name, state="draining", in_flight=2) for name in NAMES))
    app = admin_app(
        render_metrics=lambda: b"",
        state=lambda: rows,
        config=dict,
        explain=explanation,
        max_body_bytes=1000,
        token=None,
        command=command,
    )
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as http:
        yield http


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [Sign.DRAIN, Sign.RESUME])
def test_a_command_reaches_its_replica(server: httpx.Client, name: str, sign: Sign) -> None:
    """And is answered with its row, which tells how much still runs there; again does no harm."""
    told.clear()
    for _ in range(2):
        response = server.post(f"/admin/replicas/{name}/{sign.value}")
        assert response.status_code == 200
        assert (response.json()["name"], response.json()["in_flight"]) == (name, 2)
    assert told == [(name, sign)] * 2


def test_a_replica_that_there_is_not(server: httpx.Client) -> None:
    """404, which names it."""
    response = server.post("/admin/replicas/r9/drain")
    assert_openai_error(response, 404, "not_found")
    assert "'r9'" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/admin/replicas/r0/warm", "/admin/replicas/r0/gpu_lost", "/admin/replicas/r0"])
def test_only_these_commands(server: httpx.Client, path: str) -> None:
    """No other sign of health can be given from outside."""
    assert_openai_error(server.post(path), 404, "not_found")


def test_methods(server: httpx.Client) -> None:
    """A look changes nothing."""
    told.clear()
    assert_openai_error(server.get("/admin/replicas/r0/drain"), 405, "method_not_allowed")
    assert server.options("/admin/replicas/r0/drain").headers["allow"] == "POST, OPTIONS"
    assert told == []


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_other_sites_are_refused(server: httpx.Client, origin: str) -> None:
    """A browser says whose page it is that posts; without a token nothing else would keep it out."""
    told.clear()
    assert_openai_error(server.post("/admin/replicas/r0/drain", headers={"origin": origin}), 403, "forbidden")
    assert told == []
    own = str(server.base_url).rstrip("/")
    assert server.post("/admin/replicas/r0/drain", headers={"origin": own}).status_code == 200


def test_the_token_guards_commands_too() -> None:
    """Not by the address."""
    app = admin_app(
        render_metrics=lambda: b"",
        state=lambda: dashboard(row("r0")),
        config=dict,
        explain=explanation,
        max_body_bytes=1000,
        token="t0ken",
        command=command,
    )
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as http:
        assert http.post("/admin/replicas/r0/drain", params={"token": "t0ken"}).status_code == 401
        assert http.post("/admin/replicas/r0/drain", headers={"authorization": "Bearer t0ken"}).status_code == 200
