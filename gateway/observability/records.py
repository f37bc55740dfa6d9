"""What is told of a request once it is over, and the books in which its end is entered."""

import msgspec


class RequestRecord(msgspec.Struct, kw_only=True):
    """A request's end. Durations in seconds, `time` since the epoch; `None`: does not exist or is not known.

    `status`: what the client was told; 499 when it left first (nginx's number); once a stream has begun, the status
    that the failure would have had. `disconnected`: the phase in which the client left.
    """

    time: float
    request_id: str
    path: str = ""
    tenant: str = "default"
    class_: str = msgspec.field(default="standard", name="class")
    model: str | None = None
    replica: str | None = None
    replicas: tuple[str, ...] = ()
    reason: str | None = None
    attempts: int = 0
    resumed: int = 0
    status: int = 0
    error: str | None = None
    stream: bool = False
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    queue_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    duration_s: float | None = None
    bytes: int = 0
    disconnected: str | None = None
