"""Text fields out of a `multipart/form-data` body; files are passed over, not copied. Source: RFC 7578, RFC 2046."""

import re
from collections.abc import Container, Iterator

from gateway.errors import BadRequest

_BOUNDARY = re.compile(rb'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="?([^";\r\n]*)"?', re.IGNORECASE)
MAX_FIELD_BYTES = 1024
"""A value longer than this is content, not a name or a switch."""


def form_fields(content_type: bytes, body: bytes, wanted: Container[str]) -> dict[str, str]:
    """The wanted text fields; the first of each name counts. Raises `BadRequest` when this is no multipart form."""
    fields: dict[str, str] = {}
    for name, start, end in _values(content_type, body):
        if name in wanted:
            fields.setdefault(name, body[start:end].decode(errors="replace"))
    return fields


def with_field(content_type: bytes, body: bytes, field: str, value: bytes) -> bytes:
    """The form with this value in each field of the name: which of two a replica heeds is its own affair."""
    pieces = []
    done = 0
    for name, start, end in _values(content_type, body):
        if name == field:
            pieces += [body[done:start], value]
            done = end
    return b"".join([*pieces, body[done:]])


def _values(content_type: bytes, body: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, start and end of each value that is short enough to be one."""
    match = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith(b"multipart/form-data") or match is None:
        raise BadRequest("expected a multipart/form-data body with a boundary", param="content-type")
    delimiter = b"--" + (match[1] or match[2])
    at = body.find(delimiter)
    if at < 0:
        raise BadRequest("the multipart body does not hold its boundary")
    while not body.startswith(b"--", at + len(delimiter)):
        start = at + len(delimiter)
        at = body.find(b"\r\n" + delimiter, start)
        if at < 0:
            raise BadRequest("the multipart body ends in the middle of a part")
        head_end = body.find(b"\r\n\r\n", start, at)
        if head_end >= 0 and at - head_end <= MAX_FIELD_BYTES:
            name = _NAME.search(body, start, head_end)
            yield name[1].decode(errors="replace") if name else "", head_end + 4, at
        at += 2
