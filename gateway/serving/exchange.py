"""One request's life, top to bottom: parse, decide, send, relay, settle. Failover is "the next of the ranking"."""

import asyncio
import logging
from math import inf

from gateway.core.affinity import Match
from gateway.core.books import Entry
from gateway.core.endpoints import Endpoint
from gateway.core.request import RequestFacts
from gateway.core.routing import Decision, decide
from gateway.core.slowdown import Stride
from gateway.core.timeline import Timeline
from gateway.core.types import Replica
from gateway.errors import Draining, GatewayError, ReplicaFailed, ReplicaTimeout
from gateway.observability.ledger import Series
from gateway.serving.account import account
from gateway.serving.desk import Desk
from gateway.serving.http import RequestHead
from gateway.serving.reply import Client, Reply
from gateway.serving.route import Route
from gateway.serving.upstream import UpstreamConnection
from gateway.serving.witness import BUSY, Witness, dial_reason

logger = logging.getLogger(__name__)

WHOLE_ANSWER_TIMEOUT_S = 600.0
"""How long an answer that is not streamed may take: its first byte is its last token (the OpenAI SDKs' own default)."""

CLIENT_LEFT = 499


class Exchange:
    """Owns a request from its last body byte to `_settle`, which counts exactly once, whatever comes first."""

    __slots__ = (
        "_class",
        "_client",
        "_desk",
        "_endpoint",
        "_entry",
        "_facts",
        "_head",
        "_reply",
        "_route",
        "_score",
        "_series",
        "_settled",
        "_stride",
        "_timeline",
        "_upstream",
        "_witness",
    )

    def __init__(self, desk: Desk, client: Client, endpoint: Endpoint, head: RequestHead, request_id: str) -> None:
        self._desk = desk
        self._client = client
        self._endpoint = endpoint
        self._head = head
        self._class = head.class_ if head.class_ in desk.limits.classes else "standard"
        self._reply = Reply(client, head, request_id)
        self._facts: RequestFacts | None = None
        self._route: Route | None = None
        self._entry: Entry | None = None
        self._stride: Stride | None = None
        self._upstream: UpstreamConnection | None = None
        self._series: Series | None = None
        self._score = b""
        self._settled = False
        self._witness = Witness(desk.board, desk.hot, desk.clock)

    # parse, decide

    def begin(self, body: bytes, started_at: float) -> None:
        """The request has been read. Nothing here waits: what the board and the books say is acted upon at once."""
        desk = self._desk
        read_at = desk.clock.monotonic()
        self._timeline = Timeline(started_at, read_at)
        try:
            if desk.draining:
                raise Draining("the gateway is shutting down", retry_after_s=1)
            self._facts = facts = desk.parse(self._endpoint, self._head.content_type, body, self._head.session)
            match = desk.index.match(facts.blocks)
            decision = decide(facts, desk.board.current, desk.books, match, desk.policy)
            if self._head.explains:
                self._score = desk.explain(facts, match).header()
        except GatewayError as error:
            self._refuse(error)
            return
        self._route = Route(decision, desk.limits.max_attempts)
        desk.policy.record(facts, decision.ranked[0].id)
        self._tell(facts, decision, match)
        self._timeline.dispatched_at = now = desk.clock.monotonic()
        desk.ledger.stage("read", read_at - started_at)
        desk.ledger.stage("route", now - read_at)
        self._try_next(match)

    def _tell(self, facts: RequestFacts, decision: Decision, match: Match) -> None:
        ledger = self._desk.ledger
        ledger.decided(self._desk.policy.name, decision.reason)
        if facts.blocks:
            work = facts.uncached_tokens(match.depth(decision.ranked[0].id))
            ledger.prefix(facts.prompt_tokens, work, facts.uncached_tokens(decision.best_depth))

    # send

    def _try_next(self, match: Match) -> None:
        assert self._route is not None
        assert self._facts is not None
        replica = self._route.next()
        desk, facts = self._desk, self._facts
        work = facts.uncached_tokens(match.depth(replica.id))
        self._stride = desk.slowness.sent(replica.id, desk.books[replica.id], work, desk.clock.monotonic())
        self._entry = desk.books.open(replica.id, work, facts.prompt_tokens)
        desk.index.record(replica.id, facts.blocks)
        connection = desk.pool.take(replica)
        if connection is not None:
            self._send(connection)
        else:
            self._start_dial(replica)

    def _start_dial(self, replica: Replica) -> None:
        self._client.deadline = inf  # the dial has its own time-out
        self._desk.pool.spawn(self._connect(replica))

    async def _connect(self, replica: Replica) -> None:
        desk = self._desk
        dialled_at = desk.clock.monotonic()
        try:
            async with asyncio.timeout(desk.limits.connect_timeout_s):
                connection = await desk.pool.dial(replica)
        except TimeoutError:
            self._attempt_failed(ReplicaFailed(f"replica {replica.id} did not accept a connection in time"), "connect")
            return
        except OSError as error:
            reason = dial_reason(error)
            if reason == "refused":
                desk.index.forget(replica.id)  # nobody listens: the process has ended, and its cache with it
            why = error.strerror or str(error)
            self._attempt_failed(ReplicaFailed(f"replica {replica.id} cannot be reached: {why}"), reason)
            return
        except Exception as error:  # nothing else would tell the client, and no deadline runs meanwhile
            logger.exception("dialling %s failed in a way that was not foreseen", replica.id)
            self._attempt_failed(ReplicaFailed(f"replica {replica.id} cannot be reached: {error}"), "connect")
            return
        desk.ledger.stage("connect", desk.clock.monotonic() - dialled_at)
        if self._settled:  # the client has left meanwhile: the connection is good for another
            desk.pool.put(connection)
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        assert self._facts is not None
        limits = self._desk.limits
        self._upstream = connection
        wait_s = limits.first_token_timeout_s if self._facts.stream else WHOLE_ANSWER_TIMEOUT_S
        self._client.deadline = self._desk.clock.monotonic() + wait_s
        body = self._facts.body
        head = b"POST %b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            self._head.url,
            self._desk.pool.lines(connection.replica),
            b"".join(self._head.lines),
            self._reply.request_id.encode(),
            len(body),
        )
        connection.send(self, head, body)

    # relay

    def received(self, upstream: UpstreamConnection) -> None:
        """One read of the replica's answer becomes one write to the client."""
        reply = self._reply
        if reply.begun and not upstream.complete:
            data = reply.look(upstream.take())
            if reply.failed is None:
                reply.pass_on(data)
                self._mark(self._desk.clock.monotonic())
            else:
                self._fail(upstream, data, reply.failed)
        elif reply.prepared or self._take_head(upstream):
            self._turn(upstream)

    def _turn(self, upstream: UpstreamConnection) -> None:
        """The first bytes of an answer have come, or the last, or both."""
        desk, reply = self._desk, self._reply
        arrived_at = desk.clock.monotonic()
        first, complete = not reply.begun, upstream.complete
        data = reply.look(upstream.take(), complete=complete)
        if reply.failed is not None:
            self._fail(upstream, data, reply.failed)
            return
        if first and not data and not complete:
            return  # the head waits for the body's first byte: until then another replica can still answer
        if first:
            reply.begin(self._gateway_lines)
        reply.pass_on(data, ended=complete)
        now = desk.clock.monotonic()
        if first:
            desk.ledger.stage("relay", now - arrived_at)
        self._mark(now)
        if complete:
            self._complete(upstream)

    def _fail(self, upstream: UpstreamConnection, data: bytes, why: str) -> None:
        """The answer says of itself that it has failed; `data` is what the client may see of it."""
        reply = self._reply
        if not reply.begun:
            if not reply.refused and (self._may_retry or not data):
                self._give_up(upstream, why, "stream")
                return
            reply.begin(self._gateway_lines)
        reply.pass_on(data)
        self._mark(self._desk.clock.monotonic())
        upstream.abort()
        self._break_off(ReplicaFailed(why))

    def _take_head(self, upstream: UpstreamConnection) -> bool:
        """The head of an answer; `False` when it says that another replica should be asked instead."""
        assert upstream.head is not None
        assert self._facts is not None
        self.stirred()
        if (status := upstream.head.status) >= 500 and self._may_retry:
            self._give_up(upstream, f"answered {status}", "busy" if status == BUSY else "status")
            return False
        self._reply.prepare(self._facts, upstream.head)
        self._witness.answers(upstream.replica.id, status, self._facts)
        self._series = self._desk.ledger.series(self._facts.model, upstream.replica.id, self._class, "default")
        return True

    def _mark(self, now: float) -> None:
        """Bytes were handed to the socket at `now`."""
        relay = self._reply.relay
        limits = self._desk.limits
        if relay is None or relay.output:
            assert self._entry is not None
            assert self._series is not None
            gap = self._timeline.output(now) if relay is not None else None
            assert self._stride is not None
            if gap is None:
                self._entry.first_token()
                self._witness.output(now)
                if relay is not None:
                    self._stride.first_token(now)
            else:
                self._series.itl.observe(gap)
                if now >= self._stride.pace.next_at:
                    self._stride.pace.gap(gap, now)
            self._client.deadline = now + limits.idle_timeout_s
        elif self._timeline.first_output_at is not None:
            self._client.deadline = now + limits.idle_timeout_s

    def pause(self) -> None:
        """The client reads more slowly than the replica writes: let the replica feel it."""
        if self._upstream is not None:
            self._upstream.pause()
            self._extend()

    def resume(self) -> None:
        """The client reads again."""
        if self._upstream is not None:
            self._upstream.resume()
            self._extend()

    def stirred(self) -> None:
        """The replica has begun to answer. A stream may wait for its first token now; all else comes at once."""
        assert self._facts is not None
        if not self._facts.stream:
            self._extend()

    def _extend(self) -> None:
        self._client.deadline = self._desk.clock.monotonic() + self._desk.limits.idle_timeout_s

    # fail over, or end

    def broken(self, upstream: UpstreamConnection, why: str) -> None:
        """The replica's connection ended before its answer did."""
        self._upstream = None
        if upstream.reused and not upstream.got_bytes:
            # The replica closed an idle connection just as we wrote: nothing was answered, so nothing is lost. The new
            # connection is not a reused one, so that this happens once for each replica.
            self._start_dial(upstream.replica)
        else:
            self._attempt_failed(ReplicaFailed(f"replica {upstream.replica.id} {why}"), "broken")

    def expired(self) -> None:
        """The deadline has passed."""
        self._drop_upstream()
        if self._client.paused:
            self._settle(CLIENT_LEFT, "the client did not read for too long", disconnected="streaming")
            self._client.cut()
            return
        where = "between two chunks" if self._reply.begun else "for the first byte of its answer"
        self._attempt_failed(ReplicaTimeout(f"replica {self._tried.id} took too long {where}"), "timeout")

    def _give_up(self, upstream: UpstreamConnection, why: str, reason: str) -> None:
        self._upstream = None
        upstream.abort()
        self._attempt_failed(ReplicaFailed(f"replica {upstream.replica.id}: {why}"), reason)

    def _attempt_failed(self, error: GatewayError, reason: str) -> None:
        if self._settled:
            return
        assert self._entry is not None
        self._entry.close()
        assert self._route is not None
        self._witness.failed(self._tried.id, reason)
        self._route.narrow(self._desk.board.current)
        if self._reply.begun:
            self._break_off(error)
        elif self._may_retry:
            self._reply.forget()
            self._desk.ledger.retried(reason)
            assert self._facts is not None
            self._try_next(self._desk.index.match(self._facts.blocks))
        else:
            self._refuse(error)

    @property
    def _may_retry(self) -> bool:
        return self._route is not None and self._route.more

    @property
    def _tried(self) -> Replica:
        assert self._route is not None
        return self._route.current

    @property
    def _gateway_lines(self) -> bytes:
        return self._route.lines + self._score if self._route is not None else b""

    def _complete(self, upstream: UpstreamConnection) -> None:
        self._upstream = None
        assert upstream.head is not None
        status = upstream.head.status
        upstream.release()
        self._settle(status)
        self._reply.finish()

    def _refuse(self, error: GatewayError) -> None:
        self._reply.refuse(error, self._gateway_lines)
        self._settle(error.status, error.message)
        self._reply.finish()

    def _break_off(self, error: GatewayError) -> None:
        self._upstream = None
        self._reply.break_off(self._endpoint, error)
        self._settle(error.status, error.message)
        self._reply.finish()

    def client_gone(self) -> None:
        """The client has left: the replica's request is aborted at once."""
        self._drop_upstream()
        reply = self._reply
        output = self._timeline.first_output_at is not None or (reply.begun and reply.relay is None)
        self._settle(CLIENT_LEFT, disconnected="streaming" if output else "before_first_token")

    def drain(self) -> None:
        """The time for draining is over: what is still running ends with an error."""
        self._drop_upstream()
        error = Draining("the gateway is shutting down", retry_after_s=1)
        if self._settled:
            return
        if self._reply.begun:
            self._break_off(error)
        else:
            self._refuse(error)

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    # settle

    def _settle(self, status: int, error: str | None = None, *, disconnected: str | None = None) -> None:
        """Give everything back and tell what happened; a second call does nothing."""
        if self._settled:
            return
        self._settled = True
        self._client.deadline = inf
        if self._entry is not None:
            self._entry.close()
        desk = self._desk
        self._timeline.ended_at = desk.clock.monotonic()
        record = account(
            self._timeline,
            self._facts,
            self._route,
            self._reply,
            time=desk.clock.wall(),
            path=self._endpoint.path,
            class_=self._class,
            status=status,
            error=error,
            disconnected=disconnected,
        )
        if self._facts is not None and record.prompt_tokens:
            desk.ratios.learn(self._facts.model, self._facts.prompt_bytes, record.prompt_tokens)
        desk.ledger.settle(record)
