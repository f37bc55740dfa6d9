import inspect

import msgspec
import pytest

from gateway import errors
from gateway.errors import (
    BadRequest,
    DeadlineExceeded,
    Draining,
    GatewayError,
    ModelNotFound,
    ReplicaFailed,
    openai_body,
)

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_openais_four_fields(kind):
    """Any error of the tree becomes OpenAI's object with its message, type, param and code."""
    error = kind("what went wrong", param="model")
    assert msgspec.json.decode(openai_body(error)) == {
        "error": {"message": "what went wrong", "type": kind.type, "param": "model", "code": kind.code}
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_source_follows_from_the_status(kind):
    """4xx is the client's doing, and so is its deadline; 502 and 504 are the replica's, and only its failures may be
    tried elsewhere."""
    client = 400 <= kind.status < 500 or kind is DeadlineExceeded
    expected = "client" if client else "upstream" if kind.status in (502, 504) else "gateway"
    assert kind.source == expected
    assert kind.retryable == (expected == "upstream")


@pytest.mark.parametrize("kind", KINDS)
def test_the_docstring_draws_every_kind(kind):
    """The tree in the module's docstring names every class that has a status of its own, with that status."""
    line = next(line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in f"{line} ")
    assert kind is GatewayError or str(kind.status) in line


def test_absent_fields_are_null():
    """An error without a parameter to blame says so by null, as OpenAI's does."""
    assert openai_body(BadRequest("no")) == (
        b'{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}'
    )


def test_an_error_says_when_to_come_back():
    """`retry_after_s` is kept for the Retry-After header; an error without one promises nothing."""
    assert Draining("bye", retry_after_s=3).retry_after_s == 3
    assert ReplicaFailed("no").retry_after_s is None


def test_an_unknown_model_is_a_bad_request():
    """Whoever catches the client's mistakes catches an unknown model too."""
    assert issubclass(ModelNotFound, BadRequest)
    assert str(ModelNotFound("no such model")) == "no such model"
