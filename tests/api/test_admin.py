"""The admin port, as Prometheus, scripts and browsers see it."""

import base64
import hashlib
import re

import httpx
import pytest
from starlette.types import ASGIApp

from gateway.api import admin_app
from tests.api.fakes import dashboard, explanation, row
from tests.api.server import served
from tests.api.shapes import assert_openai_error


def app_with(token: str) -> ASGIApp:
    return admin_app(
        render_metrics=lambda: b"",
        state=lambda: dashboard(row()),
        config=dict,
        explain=explanation,
        max_body_bytes=1000,
        token=token,
    )


PATHS = ["/metrics", "/dashboard", "/dashboard/state.json", "/admin/replicas", "/admin/config"]


def test_metrics_are_passed_as_they_are(admin: httpx.Client) -> None:
    """With the content type that tells Prometheus the format."""
    response = admin.get("/metrics")
    assert response.content == b"gateway_up 1\n"
    assert response.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"


def test_the_figures_show_unknown_as_null(admin: httpx.Client) -> None:
    """Never as 0."""
    response = admin.get("/dashboard/state.json")
    body = response.json()
    assert (body["version"], body["ttft_p50_s"]) == ("1.2.3", None)
    assert [(r["name"], r["in_flight"]) for r in body["replicas"]] == [("r0", 3), ("r1", None)]
    assert response.headers["cache-control"] == "no-store"


def test_replicas_and_config(admin: httpx.Client) -> None:
    """The rows of the dashboard, and the config as its callable gives it."""
    assert [r["name"] for r in admin.get("/admin/replicas").json()["replicas"]] == ["r0", "r1"]
    assert admin.get("/admin/config").json() == {"admin": {"token": "***"}}


def test_the_page_loads_nothing_from_elsewhere(admin: httpx.Client) -> None:
    """The policy names the hash of each inline part, so nothing else runs."""
    response = admin.get("/dashboard")
    policy = response.headers["content-security-policy"]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", response.text, re.DOTALL)
        assert len(parts) == 1
        digest = base64.b64encode(hashlib.sha256(parts[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/)", response.text)
    assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PATHS)
def test_methods(admin: httpx.Client, path: str) -> None:
    """HEAD as GET, OPTIONS with Allow, the rest refused."""
    assert admin.head(path).status_code == 200
    assert admin.options(path).headers["allow"] == "GET, HEAD, OPTIONS"
    assert_openai_error(admin.post(path), 405, "method_not_allowed")


def test_an_explanation(admin: httpx.Client) -> None:
    """Of the body, the path in the query and the headers that a decision heeds; as JSON that nobody keeps."""
    response = admin.post(
        "/admin/explain?path=/v1/messages",
        content=b'{"messages":[]}',
        headers={"content-type": "application/json", "x-session-id": "s1"},
    )
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["summary"] == "/v1/messages application/json s1 15"
    assert admin.post("/admin/explain", content=b"x").json()["summary"] == "None application/json None 1"


def test_an_explanation_is_asked_for_by_post_and_of_a_body_in_bounds(admin: httpx.Client) -> None:
    """Other methods are refused; so is a body that the public port would not take, and one that is wrong."""
    assert admin.options("/admin/explain").headers["allow"] == "POST, OPTIONS"
    assert_openai_error(admin.get("/admin/explain"), 405, "method_not_allowed")
    assert_openai_error(admin.post("/admin/explain", content=b"x" * 1001), 413, "body_too_large")
    assert_openai_error(admin.post("/admin/explain", content=b""), 400, None)


def test_root_leads_to_the_dashboard_and_the_rest_to_nothing(admin: httpx.Client) -> None:
    """The query, which may hold the token, is kept."""
    assert admin.get("/?token=a%26b").headers["location"] == "/dashboard?token=a%26b"
    assert_openai_error(admin.get("/v1/models"), 404, "not_found")


@pytest.mark.parametrize("token", ["t0ken", "schlüssel & co"])
def test_with_a_token_every_path_asks_for_it(token: str) -> None:
    """By header everywhere, in the address only where a person opens a page; a part of it does not do."""
    app = app_with(token)
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as http:
        for path in [*PATHS, "/", "/nope"]:
            refused = http.get(path)
            assert_openai_error(refused, 401, "invalid_api_key")
            assert refused.headers["www-authenticate"] == "Bearer"
        assert_openai_error(http.post("/admin/explain", json={}), 401, "invalid_api_key")
        for value in (token, f"Basic {token}", f"Bearer {token}x", f"Bearer {token[:-1]}", "Bearer"):
            assert http.get("/metrics", headers={"authorization": value.encode()}).status_code == 401
        for scheme in ("Bearer", "bearer"):
            allowed = {"authorization": f"{scheme} {token}".encode()}
            assert all(http.get(path, headers=allowed).status_code == 200 for path in PATHS)
        assert http.get("/dashboard", params={"token": token}).status_code == 200
        assert http.get("/", params={"token": token}).status_code == 307
        for path, given in [("/dashboard", "x"), ("/dashboard", ""), ("/metrics", token), ("/admin/config", token)]:
            assert http.get(path, params={"token": given}).status_code == 401


def test_an_empty_token_lets_nobody_in() -> None:
    """It comes from a variable that is set to nothing, and must not open the port."""
    app = app_with("")
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as http:
        assert http.get("/metrics").status_code == 401
        assert http.get("/dashboard", params={"token": ""}).status_code == 401
        assert http.get("/metrics", headers={"authorization": "Bearer"}).status_code == 401
