"""Answers in the shapes that clients know: JSON, and OpenAI's errors."""

from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import BadRequest, GatewayError, MethodNotAllowed, NotFound, openai_body

CLOSE = {"connection": "close"}
"""On the public port: the next request of a pooled client has to come in by the front again, not by uvicorn."""


def json_response(value: object, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    body = msgspec.json.encode(value)
    return Response(body, status, dict(headers or {}), media_type="application/json")


def error_response(error: GatewayError, headers: Mapping[str, str] | None = None) -> Response:
    retry = {"retry-after": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    return Response(openai_body(error), error.status, {**(headers or {}), **retry}, media_type="application/json")


async def gateway_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for our own errors."""
    assert isinstance(error, GatewayError)
    return error_response(error, CLOSE)


async def http_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for what its router refuses: unknown paths and wrong methods, of which OPTIONS is none."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    headers = {**CLOSE, **(error.headers or {})}
    told: GatewayError
    if error.status_code == 404:
        told = NotFound(f"there is nothing at {path}")
    elif error.status_code == 405:
        headers["allow"] = ", ".join(sorted({*headers.get("allow", "").split(", "), "OPTIONS"} - {""}))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        told = MethodNotAllowed(f"{request.method} is not allowed at {path}")
    else:
        told = BadRequest(str(error.detail))
    return error_response(told, headers)
