"""Text fields out of a `multipart/form-data` body; files are passed over, not copied. Source: RFC 7578, RFC 2046."""

import re
from collections.abc import Container

from gateway.errors import BadRequest

_BOUNDARY = re.compile(rb'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="?([^";\r\n]*)"?', re.IGNORECASE)
MAX_FIELD_BYTES = 1024
"""A value longer than this is content, not a name or a switch."""


def form_fields(content_type: bytes, body: bytes, wanted: Container[str]) -> dict[str, str]:
    """The wanted text fields; the first of each name counts. Raises `BadRequest` when this is no multipart form."""
    match = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith(b"multipart/form-data") or match is None:
        raise BadRequest("expected a multipart/form-data body with a boundary", param="content-type")
    delimiter = b"--" + (match[1] or match[2])
    fields: dict[str, str] = {}
    at = body.find(delimiter)
    if at < 0:
        raise BadRequest("the multipart body does not hold its boundary")
    while not body.startswith(b"--", at + len(delimiter)):
        start = at + len(delimiter)
        at = body.find(b"\r\n" + delimiter, start)
        if at < 0:
            raise BadRequest("the multipart body ends in the middle of a part")
        _read_part(body, start, at, wanted, fields)
        at += 2
    return fields


def _read_part(body: bytes, start: int, end: int, wanted: Container[str], fields: dict[str, str]) -> None:
    head_end = body.find(b"\r\n\r\n", start, end)
    if head_end < 0 or end - head_end > MAX_FIELD_BYTES:
        return
    name = _NAME.search(body, start, head_end)
    key = name[1].decode(errors="replace") if name else ""
    if key in wanted:
        fields.setdefault(key, body[head_end + 4 : end].decode(errors="replace"))
