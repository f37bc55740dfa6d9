"""JSON bodies into structs, with errors that name the field."""

import re
from typing import Any, TypeVar

import msgspec

from gateway.errors import BadRequest

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, or of another shape."""

_Body = TypeVar("_Body")
_AT = re.compile(r" - at `\$\.?(.*)`$")
_MISSING = re.compile(r"missing required field `(\w+)`")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def decode(decoder: msgspec.json.Decoder[_Body], body: bytes, looser: msgspec.json.Decoder[Any] | None = None) -> _Body:
    """The body, as `looser` reads it where `decoder` does not take it. Raises `BadRequest`."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if looser is not None:
            loose: _Body = decode(looser, body)
            return loose
        raise _refusal(error, body) from None
    except RecursionError:
        raise BadRequest("the request body is nested too deeply") from None


def _refusal(error: Exception, body: bytes) -> BadRequest:
    message = str(error)
    if isinstance(error, msgspec.ValidationError):
        at = _AT.search(message)
        missing = _MISSING.search(message)
        path = ".".join(part for part in (at and at[1], missing and missing[1]) if part)
        return BadRequest(message.replace("`$.", "`").replace("`$`", "the body"), param=path or None)
    half = "; is there half of a surrogate pair in it?" if _SURROGATE.search(body) else ""
    return BadRequest(f"the request body is not valid JSON: {message}{half}")
