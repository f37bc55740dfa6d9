"""A request under another model name: only the name's bytes change, whatever else the body holds, and however spelt."""

import re
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType

import msgspec

from gateway.core.multipart import with_field

NO_ALIASES: Mapping[str, str] = MappingProxyType({})

MAX_TRIES = 4
"""Fields that spell `"model"` before the right one, in tools or metadata; bodies with more are written anew."""

_FIELD = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")')
# In valid JSON this is the end of a field's name, at whatever depth, and its value: within a text, the quotation mark
# behind `model` would have been escaped. It begins with a literal, which `re` finds ten times as fast.


class _Named(msgspec.Struct):
    model: str | None = None


_named = msgspec.json.Decoder(_Named)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def with_model(body: bytes, model: str) -> bytes:
    """The body, which is a JSON object that names another model, with this one."""
    value = msgspec.json.encode(model)
    for found in islice(_FIELD.finditer(body), MAX_TRIES):
        spliced = b"%b%b%b" % (body[: found.start(1)], value, body[found.end(1) :])
        # A field of something inside, or the first of two, of which the last counts, changes nothing.
        if _named.decode(spliced).model == model:
            return spliced
    fields = _fields.decode(body)
    fields["model"] = msgspec.Raw(value)
    return msgspec.json.encode(fields)


def form_with_model(content_type: bytes, body: bytes, model: str) -> bytes:
    """The same for a form."""
    return with_field(content_type, body, "model", model.encode())
