"""Another model name in a body: the replica reads the new one, and every other byte is the client's."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.aliases import MAX_TRIES, form_with_model, with_model
from gateway.core.endpoints import RELAYED
from gateway.core.multipart import form_fields
from gateway.core.request import parse

NAMES = st.sampled_from(["model", "a", 'say "model', "\\", "é", "\\model", "x\\"]) | st.text(max_size=4)
TEXTS = st.sampled_from(["alias", '"model":"alias"', '"model": "alias', "\\", '\\"']) | st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("body", "spliced"),
    [
        (b'{"model":"alias","n":1.50}', b'{"model":"m","n":1.50}'),
        (b' {\n "n" : 1e0 , "model"\t: "alias" }\n', b' {\n "n" : 1e0 , "model"\t: "m" }\n'),
        (b'{"model":"\\u0061lias","x":"\\u0061"}', b'{"model":"m","x":"\\u0061"}'),
        (b'{"tool":{"model":"alias"},"model":"alias"}', b'{"tool":{"model":"alias"},"model":"m"}'),
        (b'{"t":"\\"model\\":\\"alias\\"","model":"alias"}', b'{"t":"\\"model\\":\\"alias\\"","model":"m"}'),
        (b'{"say \\"model":"alias","model":"alias"}', b'{"say \\"model":"alias","model":"m"}'),
        (b'{"model":"alias","model":"alias"}', b'{"model":"alias","model":"m"}'),
        (b'{"mod\\u0065l":"alias", "n": 1.50}', b'{"model":"m","n":1.50}'),
    ],
)
def test_only_the_value_changes(body: bytes, spliced: bytes) -> None:
    """Numbers, white space and escapes elsewhere stay; only a name spelt with escapes costs the white space."""
    assert with_model(body, "m") == spliced


def test_a_body_full_of_models_is_written_anew() -> None:
    """The work is bounded; every value keeps its bytes all the same."""
    tools = b",".join([b'{"model": "alias"}'] * (MAX_TRIES + 1))
    body = b'{"tools":[%b], "model": "alias"}' % tools
    assert with_model(body, 'm"') == b'{"tools":[%b],"model":"m\\""}' % tools


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_whatever_else_there_is(fields: dict[str, object], ascii_only: bool, indent: int | None) -> None:
    """The body means the same but for the model, and the rest of it is there byte for byte."""
    before = {**fields, "model": "alias"}
    body = json.dumps(before, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    after = with_model(body, "served")
    assert json.loads(after) == before | {"model": "served"}
    if body.count(b'"model"') <= MAX_TRIES:
        assert len(after) == len(body) + len("served") - len("alias")


def test_a_form() -> None:
    """Each field of that name; the file between them, which looks like one, is left alone."""
    kind = b"multipart/form-data; boundary=x"
    head = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\nalias\0\xff\r\n'
    body = head + b"alias\r\n" + file + head + b"alias\r\n--x--\r\n"
    after = form_with_model(kind, body, "größer")
    assert after == head + "größer\r\n".encode() + file + head + "größer\r\n--x--\r\n".encode()
    assert form_fields(kind, after, ("model",)) == {"model": "größer"}


ALIASES = {"alias": "m"}


@pytest.mark.parametrize("path", [path for path in RELAYED if b"audio/tr" not in path])
def test_every_json_path_knows_aliases(path: bytes) -> None:
    """A request for an alias is one for the served name, prefix blocks and system prompt included."""
    said = "a" * 600

    def facts(model: str):
        body = {
            "model": model,
            "messages": [{"role": "user", "content": said}],
            "prompt": said,
            "input": said,
            "text_1": said,
            "stream": True,
        }
        return parse(RELAYED[path], b"application/json", json.dumps(body).encode(), aliases=ALIASES)

    assert facts("alias") == facts("m")
    assert msgspec.json.decode(facts("alias").body)["model"] == "m"
    assert facts("other").model == "other"


def test_a_form_knows_aliases() -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nalias\r\n--x--\r\n'
    facts = parse(RELAYED[b"/v1/audio/transcriptions"], b"multipart/form-data; boundary=x", body, aliases=ALIASES)
    assert (facts.model, b"\r\nm\r\n--x--" in facts.body) == ("m", True)


def test_without_aliases_the_body_is_the_very_same() -> None:
    """No copy, no scan."""
    body = b'{"model":"alias","messages":[]}'
    assert parse(RELAYED[b"/v1/chat/completions"], b"application/json", body).body is body
    assert (
        parse(RELAYED[b"/v1/chat/completions"], b"application/json", b'{"messages":[]}', aliases=ALIASES).model is None
    )
