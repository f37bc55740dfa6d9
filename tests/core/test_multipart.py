import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.multipart import MAX_FIELD_BYTES, form_fields
from gateway.errors import BadRequest

TYPE = b"multipart/form-data; boundary=xyz"
WANTED = ("model", "stream")


def part(head: str, value: bytes) -> bytes:
    return f"--xyz\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--xyz--\r\n"


def test_wanted_fields_are_read():
    """The wanted text fields are found between a file and a field that nobody asked for."""
    body = form(
        part('name="file"; filename="model"\r\nContent-Type: audio/wav', b"\0\r\n--xy\xff"),
        part('name="model"', b"whisper"),
        part('name="language"', b"en"),
        part('name="stream"', b"true"),
    )
    assert form_fields(TYPE, body, WANTED) == {"model": "whisper", "stream": "true"}


@pytest.mark.parametrize(
    "content_type",
    [TYPE, b'multipart/form-data; boundary="xyz"', b"Multipart/Form-Data; charset=utf-8; Boundary=xyz; a=b"],
)
def test_ways_to_write_the_boundary(content_type):
    """A boundary may be quoted, stand anywhere among the parameters and be spelt in any case."""
    assert form_fields(content_type, form(part("name=model", b"m")), WANTED) == {"model": "m"}


def test_the_first_of_a_name_counts():
    """A second field of the same name changes nothing."""
    assert form_fields(TYPE, form(part('name="model"', b"a"), part('name="model"', b"b")), WANTED) == {"model": "a"}


def test_a_preamble_is_passed_over():
    """What stands before the first boundary is not for machines."""
    assert form_fields(TYPE, b"hello\r\n" + form(part('name="model"', b"m")), WANTED) == {"model": "m"}


def test_long_values_are_content():
    """A value that is too long for a name or a switch is not copied."""
    assert form_fields(TYPE, form(part('name="model"', b"m" * MAX_FIELD_BYTES)), WANTED) == {}


def test_an_empty_form_and_an_empty_value():
    """A form may hold nothing, and so may a field."""
    assert form_fields(TYPE, form(), WANTED) == {}
    assert form_fields(TYPE, form(part('name="model"', b"")), WANTED) == {"model": ""}


def test_parts_without_a_head_or_a_name():
    """A part that names nothing is passed over."""
    body = b"--xyz\r\nno head\r\n" + form(part("filename=x", b"y"), part('name="model"', b"m"))
    assert form_fields(TYPE, body, WANTED) == {"model": "m"}


def test_broken_utf_8_is_replaced():
    """A value that is no UTF-8 becomes a name that no replica serves, rather than a failure here."""
    assert form_fields(TYPE, form(part('name="model"', b"\xff")), WANTED) == {"model": "\ufffd"}


@pytest.mark.parametrize(
    ("content_type", "body", "param"),
    [
        (b"", b"", "content-type"),
        (b"application/json", b"{}", "content-type"),
        (b"multipart/form-data", form(), "content-type"),
        (b"multipart/form-data; boundary=", form(), "content-type"),
        (b"multipart/mixed; boundary=xyz", form(), "content-type"),
        (TYPE, b"", None),
        (TYPE, b"hello", None),
        (TYPE, b"--xyz", None),
        (TYPE, part('name="model"', b"m"), None),
    ],
)
def test_what_is_no_form_is_refused(content_type, body, param):
    """A wrong type, no boundary and a body that stops in the middle are the client's mistakes."""
    with pytest.raises(BadRequest) as caught:
        form_fields(content_type, body, WANTED)
    assert caught.value.param == param


PIECES = st.sampled_from(
    [
        b"--xyz",
        b"--xyz--",
        b"\r\n",
        b"\r\n\r\n",
        b'Content-Disposition: form-data; name="model"',
        b"name=",
        b'"',
        b"\xff",
    ]
)


@given(
    st.sampled_from([TYPE, b'multipart/form-data; boundary="-"']) | st.binary(max_size=40),
    st.lists(PIECES | st.binary(max_size=8), max_size=20).map(b"".join),
)
def test_no_body_raises_anything_else(content_type, body):
    """Whatever bytes come, the answer is the wanted fields or a BadRequest."""
    try:
        fields = form_fields(content_type, body, WANTED)
    except BadRequest:
        return
    assert set(fields) <= set(WANTED)


@given(st.dictionaries(st.sampled_from(WANTED), st.text(st.characters(codec="utf-8"), max_size=20)), st.binary())
def test_values_come_out_as_they_went_in(fields, content):
    """Any text value is read back, also beside a file of any bytes."""
    boundary = b"no-content-holds-this"
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    body = form(*(part(head, value) for head, value in [('name="file"; filename="a"', content), *parts]))
    body = body.replace(b"--xyz", b"--" + boundary)
    if content.find(b"xyz") < 0:
        assert form_fields(b"multipart/form-data; boundary=" + boundary, body, WANTED) == fields
