"""The public port's cold paths, as a client on a socket sees them."""

import dataclasses

import httpx
import pytest

from gateway.api import public_app
from gateway.core.endpoints import RELAYED
from gateway.core.types import FleetSnapshot, ReplicaState
from tests.api.conftest import Public
from tests.api.fakes import board_of, view
from tests.api.server import served
from tests.api.shapes import assert_openai_error

PATHS = ["/", "/health", "/healthz", "/readyz", "/v1/models", "/v1/models/m"]


def test_the_models_are_the_union_of_the_fleet(public: Public) -> None:
    """Each name once, sorted, in OpenAI's shape; the same at each call."""
    response = public.http.get("/v1/models")
    assert response.status_code == 200
    body = response.json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["a", "m", "org/lora"]
    for model in body["data"]:
        assert set(model) == {"id", "object", "created", "owned_by", "root", "parent"}
        assert (model["root"], model["parent"]) == (model["id"], None)
        assert (model["object"], model["owned_by"], type(model["created"])) == ("model", "vllm-gateway", int)
    assert public.http.get("/v1/models").content == response.content


def test_aliases_are_models_while_what_they_stand_for_is_served() -> None:
    """With the served name as `root`; an alias of nothing would only end in a 404. An alias may hide a served name."""
    board = board_of(dataclasses.replace(view("r0", ReplicaState.READY, {"m", "n"}), parents=(("m", "base"),)))
    app = public_app(board, lambda: False, aliases=lambda: {"gpt-4": "m", "org/x": "m", "none": "nothing", "n": "m"})
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as http:
        models = http.get("/v1/models").json()["data"]
        assert {model["id"]: model["root"] for model in models} == {"gpt-4": "m", "m": "m", "n": "m", "org/x": "m"}
        assert {model["parent"] for model in models} == {"base"}
        assert http.get("/v1/models/org/x").json() == next(model for model in models if model["id"] == "org/x")
        assert http.get("/v1/models/none").status_code == 404


def test_a_fleet_that_never_answered_has_an_empty_list(public: Public) -> None:
    """A list all the same."""
    public.board.publish(FleetSnapshot((view("r0", ReplicaState.SUSPECT, None),)))
    assert public.http.get("/v1/models").json() == {"object": "list", "data": []}


@pytest.mark.parametrize("path", ["/v1/models/org/lora", "/v1/models/org%2Flora"])
def test_a_models_name_may_hold_a_slash(public: Public, path: str) -> None:
    """As it is, or encoded as the OpenAI SDK sends it."""
    assert public.http.get(path).json()["id"] == "org/lora"


def test_an_unknown_model(public: Public) -> None:
    """404 in OpenAI's shape; `param` tells which field is meant."""
    response = public.http.get("/v1/models/gpt-4<b>")
    assert_openai_error(response, 404, "model_not_found")
    assert response.json()["error"]["param"] == "model"


def test_alive_even_without_a_fleet(public: Public) -> None:
    """Liveness is the process's own."""
    public.board.publish(FleetSnapshot())
    public.draining = True
    assert public.http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("state", "seen_at", "status"),
    [
        (ReplicaState.READY, 1.0, 200),
        (ReplicaState.SUSPECT, 1.0, 200),
        (ReplicaState.SUSPECT, None, 503),
        (ReplicaState.EJECTED, 1.0, 503),
        (ReplicaState.WARMING, 1.0, 200),
        (ReplicaState.DRAINING, 1.0, 503),
    ],
)
def test_ready_while_a_replica_can_take_traffic(
    public: Public, state: ReplicaState, seen_at: float | None, status: int
) -> None:
    """One reset connection must not take the gateway out; a replica that never answered does not put it in."""
    public.board.publish(FleetSnapshot((view("r0", state, {"m"}, seen_at),)))
    response = public.http.get("/readyz")
    assert response.status_code == status
    if status == 503:
        assert_openai_error(response, 503, "unavailable")
        assert "none of 1 replicas" in response.json()["error"]["message"]
        assert int(response.headers["retry-after"]) >= 1


def test_not_ready_while_draining(public: Public) -> None:
    """Although replicas are ready."""
    assert public.http.get("/readyz").json() == {"status": "ready", "replicas": 1}
    assert public.http.get("/health").json() == {"status": "ready", "replicas": 1}
    public.draining = True
    response = public.http.get("/readyz")
    assert_openai_error(response, 503, "draining")
    assert "retry-after" in response.headers


def test_the_root_tells_what_this_is(public: Public) -> None:
    """And where people look."""
    body = public.http.get("/").json()
    assert body["name"] == "vllm-gateway"
    assert body["api"] == "/v1"
    assert "dashboard" in body["dashboard"]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_a_body(public: Public, path: str) -> None:
    """The same headers, the length too."""
    get, head = public.http.get(path), public.http.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


@pytest.mark.parametrize("path", PATHS)
def test_options_tell_the_methods(public: Public, path: str) -> None:
    """204 and Allow, no body."""
    response = public.http.options(path)
    assert (response.status_code, response.headers["allow"], response.content) == (204, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize("path", sorted(path.decode() for path in RELAYED))
def test_relayed_paths_are_post_only(public: Public, path: str) -> None:
    """The front hands over what is no POST."""
    assert public.http.options(path).headers["allow"] == "POST, OPTIONS"
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        response = public.http.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_method(public: Public, path: str, method: str) -> None:
    """405 with Allow."""
    response = public.http.request(method, path)
    assert_openai_error(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/", "/v1/models/", "/readyz/", "/dashboard", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_unknown_path(public: Public, path: str, method: str) -> None:
    """404, whatever the method, and no redirect; but what is under /v1/models/ knows its methods."""
    response = public.http.request(method, path)
    if path == "/v1/models/" and method != "GET":
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    else:
        assert_openai_error(response, 404, "not_found")


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", [*PATHS, "/nope", "/v1/models/nope", "/v1/chat/completions"])
def test_every_answer_closes_its_connection(public: Public, path: str, method: str) -> None:
    """A pooled client's next chat has to come in by the hot front."""
    assert public.http.request(method, path).headers["connection"] == "close"


def test_an_internal_error_is_in_openais_shape_too(public: Public) -> None:
    """It closes as well, and keeps its text to itself."""

    class Broken(FleetSnapshot):
        @property
        def replicas(self) -> tuple[()]:  # type: ignore[override]
            raise RuntimeError("s3cret")

    public.board.publish(object.__new__(Broken))
    response = public.http.get("/v1/models")
    assert_openai_error(response, 500, None)
    assert response.headers["connection"] == "close"
    assert "s3cret" not in response.text


def test_a_refused_upload_still_gets_its_answer(public: Public) -> None:
    """A connection closed over unread bytes is reset, and the client sees that instead of 404."""
    response = public.http.post("/v1/nope", content=b"x" * 8_000_000)
    assert_openai_error(response, 404, "not_found")


def test_a_client_that_waits_for_continue_is_answered_at_once(public: Public) -> None:
    """It must not be asked for its body only to be refused."""
    response = public.http.post("/nope", headers={"expect": "100-continue"}, content=b"x")
    assert_openai_error(response, 404, "not_found")
