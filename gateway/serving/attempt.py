"""One replica asked on behalf of one request: its place in the books, its connection, its answer as it comes.

Once a stream runs, `TokenStream` is the hot path.
"""

from math import inf

from gateway.core.books import Entry
from gateway.core.slowdown import Stride
from gateway.core.types import Replica
from gateway.errors import GatewayError, ReplicaFailed
from gateway.observability.ledger import Series
from gateway.serving.answer import Answer
from gateway.serving.asking import Asking
from gateway.serving.dial import DialFailed, dial
from gateway.serving.seam import Errand, Seam, first_errand
from gateway.serving.token_stream import TokenStream
from gateway.serving.upstream import UpstreamConnection
from gateway.serving.witness import BUSY

WHOLE_ANSWER_TIMEOUT_S = 600.0
"""How long an answer that is not streamed may take: its first byte is its last token (the OpenAI SDKs' own default)."""

OVERLOADED = frozenset({429, BUSY})
"""What a replica says that has too much to do: another may have less. Any other 4xx is final."""


class Attempt:
    """Ends by `failed` or `answered`, which the asker is told, or by `drop`, which it asks for."""

    __slots__ = (
        "_asker",
        "_begun",
        "_desk",
        "_entry",
        "_errand",
        "_over",
        "_seam",
        "_series",
        "_stride",
        "_upstream",
        "answer",
        "deadline",
        "producing",
        "reason",
        "replica",
    )

    def __init__(self, asker: Asking, replica: Replica, reason: str, depth: int, seam: Seam | None = None) -> None:
        """`reason`: why it is asked, in one word. `depth`: blocks of the prompt that it is likely to hold.
        `seam`: where it goes on with an answer that has begun."""
        desk, facts = asker.desk, asker.facts
        self._asker = asker
        self._desk = desk
        self.replica = replica
        self.reason = reason
        self.answer: Answer | None = None
        self.deadline = inf
        """When it has waited long enough, in monotonic seconds; `inf` while it dials, which has its own time-out."""
        self.producing = False
        """Whether it has given output."""
        self._seam = seam
        self._errand: Errand | None = None
        self._upstream: UpstreamConnection | None = None
        self._series: Series | None = None
        self._begun = self._over = False
        work = facts.uncached_tokens(depth)
        self._stride: Stride = desk.slowness.sent(replica.id, desk.books[replica.id], work, desk.clock.monotonic())
        self._entry: Entry = desk.books.open(replica.id, work, facts.prompt_tokens)
        desk.streams.add(self)

    # send

    def start(self) -> None:
        """Send the request, on a connection that is idle or on a new one."""
        if self._seam is not None:
            self._wait(2 * self._desk.limits.connect_timeout_s)
            self._desk.pool.spawn(self._take_up(self._seam))
            return
        self._errand = first_errand(self._desk, self.replica, self._asker.head.url, self._asker.facts)
        self._run()

    async def _take_up(self, seam: Seam) -> None:
        """Find out what the replica is to be asked for the rest of an answer."""
        try:
            self._errand = await seam.errand(self._desk, self.replica)
        except ReplicaFailed as error:
            self._fail(error, "resume")
            return
        if not self._over:
            self._run()

    def _run(self) -> None:
        if (connection := self._desk.pool.take(self.replica)) is not None:
            self._send(connection)
        else:
            self._desk.pool.spawn(self._connect())

    async def _connect(self) -> None:
        desk = self._desk
        dialled_at = desk.clock.monotonic()
        try:
            connection = await dial(desk.pool, self.replica, desk.limits.connect_timeout_s)
        except DialFailed as error:
            if error.reason == "refused":
                desk.index.forget(self.replica.id)  # nobody listens: the process has ended, and its cache with it
            self._fail(error, error.reason)
            return
        desk.ledger.stage("connect", desk.clock.monotonic() - dialled_at)
        if self._over:  # nobody waits any more: the connection is good for another
            desk.pool.put(connection)
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        asker, errand, limits = self._asker, self._errand, self._desk.limits
        assert errand is not None
        self._upstream = connection
        self._wait(limits.first_token_timeout_s if asker.facts.stream else WHOLE_ANSWER_TIMEOUT_S)
        head = b"POST %b HTTP/1.1\r\n%b%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            errand.url,
            self._desk.pool.lines(self.replica),
            asker.deadline_line,
            b"".join(asker.head.lines),
            asker.reply.request_id.encode(),
            len(errand.body),
        )
        connection.send(self, head, errand.body)

    # relay

    def received(self, upstream: UpstreamConnection) -> None:
        """Bytes of the replica's answer: its head, the first of its body, the last, or all of them."""
        if self.answer is not None or self._take_head(upstream):
            self._turn(upstream)

    def _turn(self, upstream: UpstreamConnection) -> None:
        """What came of the body goes on to the client."""
        desk, asker, answer = self._desk, self._asker, self.answer
        assert answer is not None
        arrived_at = desk.clock.monotonic()
        first, complete = not self._begun, upstream.complete
        data = answer.look(upstream.take(), complete=complete)
        if answer.failed is not None:
            self.fail_by_events(data)
            return
        if first and not data and not complete:
            return  # the head waits for the body's first byte: until then another replica can still answer
        if first:
            self._flow()
        asker.reply.pass_on(data, ended=complete)
        now = desk.clock.monotonic()
        if first:
            desk.ledger.stage("relay", now - arrived_at)
        self._mark(now)
        if complete:
            self._complete(upstream)
        elif self.producing:
            self._run_on(upstream, answer)

    def _flow(self) -> None:
        self._begun = True
        self._asker.chosen(self)

    def _run_on(self, upstream: UpstreamConnection, answer: Answer) -> None:
        """The stream runs: from now on all is alike, but for its end."""
        if answer.relay is not None and self._series is not None:
            pace, observe = self._stride.pace, self._series.itl.observe
            upstream.waiting = TokenStream(self, self._asker, answer.relay, pace, observe)

    def fail_by_events(self, data: bytes) -> None:
        """The answer says of itself that it has failed; `data` is what the client may see of it."""
        asker, answer = self._asker, self.answer
        assert answer is not None
        assert answer.failed is not None
        if not self._begun and self._shows_failure(answer, data):
            self._flow()
        if self._begun:
            asker.reply.pass_on(data)
            self._mark(self._desk.clock.monotonic())
        self._fail(ReplicaFailed(f"replica {self.replica.id}: {answer.failed}"), "stream")

    def _shows_failure(self, answer: Answer, data: bytes) -> bool:
        """Whether the client is to see what an answer said that has failed before anything of it was passed on."""
        if self._seam is not None:
            return data != b""
        return answer.refusal is not None or (bool(data or answer.last_words) and not self._asker.may_retry)

    def _take_head(self, upstream: UpstreamConnection) -> bool:
        """The head of an answer; `False` when it says that another replica should be asked instead."""
        asker, head = self._asker, upstream.head
        assert head is not None
        self.stirred()
        status = head.status
        useless = not head.streams if self._seam is not None else status >= 500 or status in OVERLOADED
        if useless and (asker.may_retry or self._seam is not None):
            reason = "busy" if status in OVERLOADED else "status"
            self._fail(ReplicaFailed(f"replica {self.replica.id}: answered {status}"), reason)
            return False
        errand, self._errand = self._errand, None  # with its body: who has begun to answer is not asked again
        assert errand is not None
        self.answer = Answer(head, asker.facts, errand.relay)
        self._series = self._desk.ledger.series(asker.facts.model, self.replica.id, asker.class_, "default")
        return True

    def _mark(self, now: float) -> None:
        """Bytes were handed to the socket at `now`."""
        asker = self._asker
        assert self.answer is not None
        relay = self.answer.relay
        if relay is None or relay.output:
            gap = asker.timeline.output(now) if relay is not None else None
            if gap is not None:
                assert self._series is not None
                self._series.itl.observe(gap)
                if now >= self._stride.pace.next_at and self.producing:
                    self._stride.pace.gap(gap, now)
            if not self.producing:
                self._first_output(now)
        if relay is None or asker.timeline.first_output_at is not None:
            asker.client.deadline = now + self._desk.limits.idle_timeout_s

    def _first_output(self, now: float) -> None:
        assert self.answer is not None
        self.producing = True
        self._entry.first_token()
        self._asker.witness.output(self.replica, self.answer.head.status, self._asker.facts, now)
        if self._seam is not None:
            self._asker.went_on(self._seam.kept)
        elif self.answer.relay is not None:
            self._stride.first_token(now)

    def pause(self) -> None:
        """The client reads more slowly than the replica writes: let the replica feel it."""
        if self._upstream is not None:
            self._upstream.pause()
            self._wait(self._desk.limits.idle_timeout_s)

    def resume(self) -> None:
        """The client reads again."""
        if self._upstream is not None:
            self._upstream.resume()
            self._wait(self._desk.limits.idle_timeout_s)

    def stirred(self) -> None:
        """The replica has begun to answer. A stream may wait for its first token now; all else comes at once."""
        if not self._asker.facts.stream:
            self._wait(self._desk.limits.idle_timeout_s)

    def _wait(self, seconds: float) -> None:
        self.deadline = self._desk.clock.monotonic() + seconds
        self._asker.waits()

    # end

    def broken(self, upstream: UpstreamConnection, why: str) -> None:
        """The replica's connection ended before its answer did."""
        self._upstream = None
        if upstream.reused and not upstream.got_bytes:
            # The replica closed an idle connection just as we wrote: nothing was answered, so nothing is lost. The new
            # connection is not a reused one, so that this happens once for each replica.
            self.deadline = inf
            self._asker.waits()
            self._desk.pool.spawn(self._connect())
        else:
            self._fail(ReplicaFailed(f"replica {self.replica.id} {why}"), "broken")

    @property
    def moved_at(self) -> float | None:
        """When output last came, in monotonic seconds; `None` while there was none."""
        return self._asker.timeline.last_output_at if self.producing else None

    def lose(self, error: GatewayError, reason: str) -> None:
        """It is given up."""
        self._fail(error, reason)

    def _complete(self, upstream: UpstreamConnection) -> None:
        self._upstream = None
        assert self.answer is not None
        upstream.release()
        self.drop()
        self._asker.answered(self, self.answer.head.status)

    def _fail(self, error: GatewayError, reason: str) -> None:
        if not self._over:
            self.drop()
            self._asker.failed(self, error, reason)

    def drop(self) -> None:
        """It is not wanted any more: the replica's request is aborted, and its place in the books given back."""
        self._over = True
        self._entry.close()
        self._desk.streams.discard(self)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
