"""What a replica's answer says before its body."""


class ResponseHead:
    """Status and headers of an answer. `lines` are those that go on to the client, as they came, without framing."""

    __slots__ = ("close", "content_length", "content_type", "lines", "status")

    def __init__(self) -> None:
        self.status = 0
        self.lines: list[bytes] = []
        self.content_type = b""
        self.content_length: int | None = None
        self.close = False

    @property
    def streams(self) -> bool:
        """Whether events follow that are an answer."""
        return self.status == 200 and self.content_type.startswith(b"text/event-stream")

    @property
    def has_body(self) -> bool:
        """Whether there may be one, whatever its framing says: RFC 9112, 6.3."""
        return self.status not in (204, 304)
