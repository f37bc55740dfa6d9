"""One request's life, top to bottom: parse, decide, ask, answer, settle. Failover is "the next of the ranking"."""

import asyncio
from collections.abc import Callable
from math import inf

from gateway.core.affinity import Match
from gateway.core.carry import Carry
from gateway.core.continuation import closing, counted
from gateway.core.endpoints import Endpoint
from gateway.core.request import RequestFacts
from gateway.core.routing import Decision, decide
from gateway.core.timeline import Timeline
from gateway.errors import DeadlineExceeded, Draining, GatewayError, ReplicaTimeout
from gateway.serving.account import account
from gateway.serving.answer import Answer
from gateway.serving.attempt import Attempt
from gateway.serving.desk import Desk
from gateway.serving.http import RequestHead
from gateway.serving.reply import Client, Reply
from gateway.serving.route import Route, answer_lines
from gateway.serving.seam import Seam
from gateway.serving.witness import Witness

CLIENT_LEFT = 499

HEDGED_CLASS = "interactive"
"""Where a late first token is felt; others can wait, and their prompts are longer."""


class Exchange:
    """Owns a request from its last body byte to `_settle`, which counts exactly once, whatever comes first."""

    __slots__ = (
        "_carry",
        "_endpoint",
        "_last",
        "_read",
        "_route",
        "_running",
        "_score",
        "_settled",
        "_timers",
        "_until",
        "class_",
        "client",
        "desk",
        "facts",
        "head",
        "reply",
        "timeline",
        "witness",
    )

    facts: RequestFacts
    timeline: Timeline

    def __init__(self, desk: Desk, client: Client, endpoint: Endpoint, head: RequestHead, request_id: str) -> None:
        self.desk = desk
        self.client = client
        self.head = head
        self.class_ = head.class_ if head.class_ in desk.limits.classes else "standard"
        self.reply = Reply(client, head, request_id)
        self.witness = Witness(desk.board, desk.hot, desk.clock)
        self._until: float | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._endpoint = endpoint
        self._read = False
        self._route: Route | None = None
        self._running: list[Attempt] = []
        self._last: Attempt | None = None
        self._carry: Carry | None = None
        self._score = b""
        self._settled = False

    # parse, decide

    def begin(self, body: bytes, started_at: float) -> None:
        """The request has been read. Nothing here waits: what the board and the books say is acted upon at once."""
        desk = self.desk
        self.timeline = Timeline(started_at, read_at := desk.clock.monotonic())
        try:
            if desk.draining:
                raise Draining("the gateway is shutting down", retry_after_s=1)
            self.facts = facts = desk.parse(self._endpoint, self.head.content_type, body, self.head.session)
            self._read = True
            self._heed_deadline(started_at, read_at)
            match = desk.index.match(facts.blocks)
            decision = decide(facts, desk.board.current, desk.books, match, desk.policy)
            if self.head.explains:
                self._score = desk.explain(facts, match).header()
        except GatewayError as error:
            self._refuse(error)
            return
        self._route = Route(decision, desk.limits.max_attempts)
        desk.policy.record(facts, decision.ranked[0].id)
        self._tell(facts, decision, match)
        self.timeline.dispatched_at = now = desk.clock.monotonic()
        desk.ledger.stage("read", read_at - started_at)
        desk.ledger.stage("route", now - read_at)
        self._ask(decision.reason, match)
        self._count_in(now)

    def _count_in(self, now: float) -> None:
        """The budgets hear of a request, and a hedge is planned where there is to be one."""
        desk, facts = self.desk, self.facts
        desk.retries.came(now)
        if desk.hedging.on:
            desk.hedges.came(now)
            wait_s = desk.hedging.delay_s(facts.model)
            if wait_s is not None and facts.stream and self.class_ == HEDGED_CLASS:
                self._after(wait_s, self._hedge)

    def _heed_deadline(self, started_at: float, now: float) -> None:
        if self.head.deadline_s is not None:
            self._until = started_at + self.head.deadline_s
            if self._until <= now:
                raise DeadlineExceeded("the deadline has passed before the request was read")
            self._after(self._until - now, self._overdue)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, call))

    def _tell(self, facts: RequestFacts, decision: Decision, match: Match) -> None:
        ledger = self.desk.ledger
        ledger.decided(self.desk.policy.name, decision.reason)
        if facts.blocks:
            work = facts.uncached_tokens(match.depth(decision.ranked[0].id))
            ledger.prefix(facts.prompt_tokens, work, facts.uncached_tokens(decision.best_depth))

    # ask

    def _ask(self, reason: str, match: Match, seam: Seam | None = None) -> None:
        """The next replica of the ranking."""
        assert self._route is not None
        replica = self._route.next()
        self._last = attempt = Attempt(self, replica, reason, match.depth(replica.id), seam)
        self._running.append(attempt)
        self.desk.index.record(replica.id, self.facts.blocks)
        self.waits()
        attempt.start()

    @property
    def may_retry(self) -> bool:
        """Whether another replica may be asked, or is."""
        if len(self._running) > 1:
            return True
        return self._route is not None and self._route.more and self.desk.retries.allows(self.desk.clock.monotonic())

    @property
    def deadline_line(self) -> bytes:
        """The header that tells a replica how long the client still waits; none if it did not say."""
        if self._until is None:
            return b""
        return b"x-gateway-deadline-ms: %d\r\n" % max(1, 1000 * (self._until - self.desk.clock.monotonic()))

    def _hedge(self) -> None:
        """The first token is late: a second replica is asked, and whichever is the first answers."""
        desk, route = self.desk, self._route
        assert route is not None
        now = desk.clock.monotonic()
        if len(self._running) == 1 and not self.reply.begun and route.more and desk.hedges.allows(now):
            desk.hedges.spend(now)
            self._ask("hedge", desk.index.match(self.facts.blocks))

    def waits(self) -> None:
        """The `deadline` of an attempt has changed."""
        self.client.deadline = min([attempt.deadline for attempt in self._running], default=inf)

    # answer

    def chosen(self, attempt: Attempt) -> None:
        """The first bytes for the client are here: this attempt answers."""
        desk = self.desk
        for other in self._running:
            if other is not attempt:
                other.drop()
                desk.ledger.hedged("won" if attempt.reason == "hedge" else "lost")
        self._running = [attempt]
        self._last = attempt
        assert attempt.answer is not None
        if not self.reply.begun:
            self.reply.begin(attempt.answer, self._gateway_lines)
            assert self.timeline.dispatched_at is not None
            desk.hedging.observed(self.facts.model, desk.clock.monotonic() - self.timeline.dispatched_at)

    def pause(self) -> None:
        """The client reads more slowly than the replica writes: let the replica feel it."""
        for attempt in self._running:
            attempt.pause()

    def resume(self) -> None:
        """The client reads again."""
        for attempt in self._running:
            attempt.resume()

    @property
    def _gateway_lines(self) -> bytes:
        last, route = self._last, self._route
        if last is None or route is None:
            return b""
        return answer_lines(last.replica, last.reason, route.attempts) + self._score

    # fail over, or end

    def failed(self, attempt: Attempt, error: GatewayError, reason: str) -> None:
        """An attempt is over; `reason` is one of `gateway_retries_total`."""
        desk, route = self.desk, self._route
        assert route is not None
        self._running.remove(attempt)
        self.witness.failed(attempt.replica, reason)
        route.narrow(desk.board.current)
        if self._running:
            self.waits()
        elif self.reply.begun:
            self._go_on(attempt, error)
        elif self.may_retry:
            desk.ledger.retried(reason)
            desk.retries.spend(desk.clock.monotonic())
            self._ask("failover", desk.index.match(self.facts.blocks))
        else:
            if route.more:
                desk.ledger.retried("denied")
            self._refuse(error)

    def _go_on(self, attempt: Attempt, error: GatewayError) -> None:
        """The answer has begun: another replica goes on with it, if there is one that can."""
        answer = attempt.answer
        if answer is not None and answer.carry is not None:
            self._carry = answer.carry
        carry, desk = self._carry, self.desk
        ended = answer is not None and answer.ended
        if carry is not None and answer is not None and ended and (carry.exact or self.facts.hides_usage):
            self._close_up(carry, answer)
        elif carry is not None and not ended and self._finds_another(attempt):
            desk.ledger.retried("resume")
            self._ask("resume", desk.index.match(self.facts.blocks), Seam(self.head.url, self.facts, carry))
        else:
            if self.reply.streams:
                desk.ledger.resumed("impossible" if carry is None else "failed")
            self._break_off(error, attempt)

    def _finds_another(self, attempt: Attempt) -> bool:
        """Whether there is a replica to go on: of a new ranking if the last one asked gave output, else the next."""
        route = self._route
        assert route is not None
        if attempt.producing or attempt.reason != "resume":
            desk = self.desk
            match = desk.index.match(self.facts.blocks)
            try:
                decision = decide(self.facts, desk.board.current, desk.books, match, desk.policy)
            except GatewayError:
                return False
            others = tuple([replica for replica in decision.ranked if replica.id != attempt.replica.id])
            route.again(decision._replace(ranked=others))
        return route.more

    def _close_up(self, carry: Carry, answer: Answer) -> None:
        """All was told but the end."""
        assert answer.relay is not None
        answer.relay.usage = counted(carry) if carry.exact else None
        self.reply.pass_on(closing(carry, usage=not self.facts.hides_usage), ended=True)
        self._settle(answer.head.status)
        self.reply.finish()

    def went_on(self, tokens: int) -> None:
        """The first output of an attempt that goes on with an answer; so many tokens of it were carried over."""
        self.desk.ledger.resumed("resumed")
        assert self._route is not None
        self._route.resumed = tokens

    def expired(self) -> None:
        """The deadline has passed."""
        if self.client.paused:
            self._settle(CLIENT_LEFT, "the client did not read for too long", disconnected="streaming")
            self.client.cut()
            return
        now, begun = self.desk.clock.monotonic(), self.reply.begun
        for attempt in [attempt for attempt in self._running if begun or attempt.deadline <= now]:
            where = "between two chunks" if begun else "for the first byte of its answer"
            attempt.lose(ReplicaTimeout(f"replica {attempt.replica.id} took too long {where}"), "timeout")

    def answered(self, attempt: Attempt, status: int) -> None:
        """The answer is complete, and handed to the client."""
        carry = attempt.answer.carry if attempt.answer is not None else None
        if carry is not None:
            self._learn_reply(attempt, carry)
        self._settle(status)
        self.reply.finish()

    def _learn_reply(self, attempt: Attempt, carry: Carry) -> None:
        """The replica holds what it said, too, and the next turn's prompt will begin with it."""
        blocks = self.facts.blocks_with(carry.text)
        if len(blocks) > len(self.facts.blocks):
            self.desk.index.record(attempt.replica.id, blocks)

    def _refuse(self, error: GatewayError) -> None:
        self.reply.refuse(error, self._gateway_lines)
        self._settle(error.status, error.message)
        self.reply.finish()

    def _break_off(self, error: GatewayError, attempt: Attempt | None = None) -> None:
        answer = attempt.answer if attempt is not None else None
        if answer is not None and answer.refusal:  # the client's own mistake, told in full: the replica is well
            self.reply.pass_on(answer.last_words + self._endpoint.done, ended=True)
        else:
            self.reply.break_off(self._endpoint, error, answer.last_words if answer is not None else b"")
        self._settle((answer and answer.refusal) or error.status, error.message)
        self.reply.finish()

    def client_gone(self) -> None:
        """The client has left: the replica's request is aborted at once."""
        output = self.timeline.first_output_at is not None or (self.reply.begun and not self.reply.streams)
        self._settle(CLIENT_LEFT, disconnected="streaming" if output else "before_first_token")

    def drain(self) -> None:
        """The time for draining is over: what is still running ends with an error."""
        if self._settled:
            return
        self._end(Draining("the gateway is shutting down", retry_after_s=1))

    def _overdue(self) -> None:
        """The client's own deadline has passed."""
        if not self._settled:
            self._end(DeadlineExceeded("the deadline of x-gateway-deadline-ms has passed"))

    def _end(self, error: GatewayError) -> None:
        self._drop_all()
        if self.reply.begun:
            self._break_off(error)
        else:
            self._refuse(error)

    def _drop_all(self) -> None:
        self.client.deadline = inf
        for timer in self._timers:
            timer.cancel()
        for attempt in self._running:
            attempt.drop()
        self._running.clear()

    # settle

    def _settle(self, status: int, error: str | None = None, *, disconnected: str | None = None) -> None:
        """Give everything back and tell what happened; a second call does nothing."""
        if self._settled:
            return
        self._settled = True
        self._drop_all()
        desk, facts = self.desk, self.facts if self._read else None
        last, self._last = self._last, None  # it knows this exchange: a cycle would keep both until a collection
        self.timeline.ended_at = desk.clock.monotonic()
        record = account(
            self.timeline,
            facts,
            self._route,
            last,
            self.reply,
            time=desk.clock.wall(),
            path=self._endpoint.path,
            class_=self.class_,
            status=status,
            error=error,
            disconnected=disconnected,
        )
        if facts is not None and record.prompt_tokens:
            desk.ratios.learn(facts.model, facts.prompt_bytes, record.prompt_tokens)
        desk.ledger.settle(record)
