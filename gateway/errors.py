"""Everything the gateway refuses or fails with, as one tree:

    GatewayError
    ├── BadRequest 400               the client's mistake
    │   ├── Unauthorized 401         no key, or a wrong one
    │   ├── Forbidden 403            not from there
    │   ├── NotFound 404             unknown path
    │   │   └── ModelNotFound 404    no replica serves this model
    │   ├── MethodNotAllowed 405
    │   ├── UploadTimeout 408
    │   ├── Conflict 409             there is one of that name
    │   ├── BodyTooLarge 413
    │   ├── ExpectationFailed 417
    │   └── HeadersTooLarge 431
    ├── ReplicaFailed 502            the replica refused, broke or answered garbage
    ├── Unavailable 503              no replica can take it, or the gateway is draining
    │   └── Draining 503
    ├── ReplicaTimeout 504           no first token, or silence in mid-stream
    └── DeadlineExceeded 504         the client's own deadline has passed

A class attribute says all there is to know of a kind of error; `openai_body` is the only maker of error JSON.
"""

from typing import ClassVar, Literal

import msgspec

Source = Literal["client", "gateway", "upstream"]


class GatewayError(Exception):
    """Knows the status and the OpenAI fields it is answered with, and whether another replica may be tried."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    retryable: ClassVar[bool] = False
    source: ClassVar[Source] = "gateway"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    source = "client"


class Unauthorized(BadRequest):
    status = 401
    code = "invalid_api_key"


class Forbidden(BadRequest):
    status = 403
    code = "forbidden"


class NotFound(BadRequest):
    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(BadRequest):
    status = 405
    code = "method_not_allowed"


class UploadTimeout(BadRequest):
    status = 408
    code = "upload_timeout"


class Conflict(BadRequest):
    status = 409
    code = "conflict"


class BodyTooLarge(BadRequest):
    status = 413
    code = "body_too_large"


class ExpectationFailed(BadRequest):
    status = 417
    code = "expectation_failed"


class HeadersTooLarge(BadRequest):
    status = 431
    code = "headers_too_large"


class ReplicaFailed(GatewayError):
    status = 502
    code = "replica_failed"
    retryable = True
    source = "upstream"


class Unavailable(GatewayError):
    status = 503
    code = "unavailable"


class Draining(Unavailable):
    code = "draining"


class ReplicaTimeout(GatewayError):
    status = 504
    code = "replica_timeout"
    retryable = True
    source = "upstream"


class DeadlineExceeded(GatewayError):
    status = 504
    code = "deadline_exceeded"
    source = "client"


def openai_body(error: GatewayError) -> bytes:
    """The error as OpenAI's JSON object: `{"error": {"message", "type", "param", "code"}}`.

    Source: OpenAI API reference, "Error object"; SDKs read `error.message`, `error.param`, `error.code`.
    """
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )
