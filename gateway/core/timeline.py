"""When what happened to one request, and the figures that follow from it. All times are monotonic seconds."""


class Timeline:
    """A request's marks. A figure is `None` until its marks are there, and when it does not exist for this request.

    TTFT runs from the first byte of the request read to the first event with output handed to the socket.
    ITL is the time between two such events; an event may hold several tokens.
    TPOT is the time from the first output to the last, for each completion token after the first.
    """

    __slots__ = ("dispatched_at", "ended_at", "first_output_at", "last_output_at", "read_at", "started_at")

    def __init__(self, started_at: float, read_at: float) -> None:
        self.started_at = started_at
        self.read_at = read_at
        self.dispatched_at: float | None = None
        self.first_output_at: float | None = None
        self.last_output_at: float | None = None
        self.ended_at: float | None = None

    def output(self, now: float) -> float | None:
        """An event with output was handed over: the time since the one before (ITL), `None` for the first."""
        last, self.last_output_at = self.last_output_at, now
        if last is None:
            self.first_output_at = now
            return None
        return now - last

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_output_at is None else self.first_output_at - self.started_at

    @property
    def queue_s(self) -> float | None:
        return None if self.dispatched_at is None else self.dispatched_at - self.read_at

    @property
    def duration_s(self) -> float | None:
        return None if self.ended_at is None else self.ended_at - self.started_at

    def tpot_s(self, completion_tokens: int | None) -> float | None:
        """Seconds per output token after the first; `None` without a count or with fewer than two tokens."""
        if completion_tokens is None or completion_tokens < 2 or self.first_output_at is None:
            return None
        assert self.last_output_at is not None  # set together with first_output_at
        return (self.last_output_at - self.first_output_at) / (completion_tokens - 1)
