"""Replay a trace through the gateway's own routing core against engine models, in virtual time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from random import Random

from gateway.core.books import Entry
from gateway.core.slowdown import Stride
from gateway.emulator.engine import ItlSummary, Progress
from gateway.lab.entrants import Entrant
from gateway.lab.gateways import LabGateway, facts_of
from gateway.lab.replicas import LabReplica
from gateway.lab.setup import FOREVER, TELEMETRY_S, Kill, Setup, Throttle
from gateway.lab.sharing import Shared, Sharing
from gateway.lab.traces import TraceItem


@dataclass(frozen=True, slots=True)
class Ended:
    """One request's end. Times in seconds of the trace.

    `replica`: the last one it was sent to. `first_s`: its first token; `None`: it had none. `cached_tokens`: of its
    prompt, as the engine says; `None`: it was never scheduled. `failure`: empty if it finished; `refused`: nobody could
    take it; `broken`: its replica died while it streamed.
    """

    item: TraceItem
    replica: int
    first_s: float | None
    end_s: float
    cached_tokens: int | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a trace under one policy, requests in the order of their ends.

    `itl`: of all tokens. `busy_s`: seconds in which each replica had something to do.
    """

    policy: str
    setup: Setup
    ended: Sequence[Ended]
    itl: ItlSummary
    preemptions: int
    busy_s: Sequence[float]


class _Flight:
    """A request on its way; `entry`, `stride` and `shared` are those of its attempt under way."""

    __slots__ = ("cached_tokens", "entry", "facts", "first_s", "gateway", "item", "name", "replica", "shared", "stride")

    def __init__(self, name: str, item: TraceItem, gateway: int) -> None:
        self.name = name
        self.item = item
        self.facts = facts_of(item)
        self.gateway = gateway
        self.first_s: float | None = None
        self.cached_tokens: int | None = None
        self.replica: int
        self.entry: Entry
        self.stride: Stride
        self.shared: Shared


def simulate(
    trace: Sequence[TraceItem],
    entrant: Entrant,
    setup: Setup,
    progress: Callable[[int], object] = lambda _ended: None,
) -> Run:
    """Run all requests of the trace, which come in order of arrival, to their end. `progress`: how many have ended."""
    ended: list[Ended] = []

    def end(one: Ended) -> None:
        ended.append(one)
        progress(len(ended))

    done = Simulation(trace, entrant, setup, end, seed=len(trace))
    done.run()
    return Run(entrant.name, setup, ended, done.itl(), done.preemptions, [replica.busy_s for replica in done.replicas])


class Simulation:
    """One run: a heap of what happens when. When it is over, the books of its `gateways` are empty.

    `trace`: in order of arrival, read as time goes on. `ended`: called with each end, in their order; nothing else is
    kept of a request that has ended, but the gaps between its tokens until `forget_gaps`. `seed`: of the noise.
    """

    def __init__(
        self,
        trace: Iterable[TraceItem],
        entrant: Entrant,
        setup: Setup,
        ended: Callable[[Ended], object],
        *,
        seed: int = 0,
    ) -> None:
        self._trace = trace
        self._coming = True
        self._entrant = entrant
        self._setup = setup
        self._noise = Random(seed)
        self._ended = ended
        self.replicas = [LabReplica(setup.params, setup.kv(n), setup.speed(n)) for n in range(setup.replicas)]
        sizes = [setup.kv(n) for n in range(setup.replicas)]
        self.gateways = [LabGateway(entrant, sizes, learn=setup.learned) for _ in range(setup.gateways)]
        self._sharing = Sharing(self.gateways, setup.delay_s, self._at)
        self._flights: list[dict[str, _Flight]] = [{} for _ in range(setup.replicas)]
        self._heap: list[tuple[float, int, Callable[[float], object]]] = []
        self._happenings = 0
        self._wakes: list[float | None] = [None] * setup.replicas

    def run(self) -> None:
        """To be called once."""
        self._prepare()
        heap = self._heap
        for number, item in enumerate(self._trace):
            while heap and heap[0][0] <= item.arrival_s:
                self._happen()
            self._dispatch(_Flight(str(number), item, number % len(self.gateways)), item.arrival_s)
        self._coming = False
        while heap:
            self._happen()

    def itl(self) -> ItlSummary:
        """The gaps between all tokens so far, or since `forget_gaps`."""
        return ItlSummary(tuple(gap for replica in self.replicas for gap in replica.itl().gaps))

    def forget_gaps(self) -> None:
        """`itl` begins anew."""
        for replica in self.replicas:
            replica.forget_gaps()

    @property
    def preemptions(self) -> int:
        """Of all replicas so far."""
        return sum(replica.preemptions for replica in self.replicas)

    def _prepare(self) -> None:
        self._at(self._entrant.scrape_s, self._scrape)
        for throttle in self._setup.throttles:
            self._at(throttle.start_s, partial(self._throttle, throttle, True))
            self._at(throttle.end_s, partial(self._throttle, throttle, False))
        for kill in self._setup.kills:
            self._at(kill.start_s, partial(self._kill, kill))
            self._at(kill.end_s, partial(self._rejoin, kill))

    def _at(self, at: float, call: Callable[[float], object]) -> None:
        if at < FOREVER:
            self._happenings += 1
            heappush(self._heap, (at, self._happenings, call))

    def _happen(self) -> None:
        at, _order, call = heappop(self._heap)
        call(at)

    def _dispatch(self, flight: _Flight, now: float) -> None:
        placed = self.gateways[flight.gateway].place(flight.facts, now)
        number = flight.replica = placed.replica
        flight.entry = placed.entry
        flight.stride = placed.stride
        flight.shared = self._sharing.sent(now, flight.gateway, number, placed.work_tokens, flight.facts)
        replica = self.replicas[number]
        request = flight.item.engine_request(flight.name)
        if not replica.takes(request):
            self._end(flight, now, "refused")
            return
        self._flights[number][flight.name] = flight
        replica.submit(request, now)
        self._wake(number)

    def _wake(self, number: int) -> None:
        """Be there when the replica next has news."""
        at = self.replicas[number].next_at()
        if at is not None and at != self._wakes[number]:
            self._wakes[number] = at
            self._at(at, partial(self._woken, number))

    def _woken(self, number: int, now: float) -> None:
        # What was submitted since may have brought the news forward: then this is an old alarm.
        if self._wakes[number] == now:
            self._wakes[number] = None
            self._advance(number, now)
            gap_s = self.replicas[number].gap_s()
            if gap_s is not None:
                for gateway in self.gateways:
                    gateway.gap(number, gap_s * self._blur(), now)

    def _advance(self, number: int, now: float) -> None:
        flights = self._flights[number]
        for report in self.replicas[number].advance(now):
            flight = flights[report.request_id]
            if flight.first_s is None:
                self._first_token(flight, report)
            if report.finished:
                del flights[flight.name]
                self._end(flight, report.at)
        self._wake(number)

    def _first_token(self, flight: _Flight, report: Progress) -> None:
        flight.first_s = report.at
        flight.cached_tokens = report.cached_tokens
        flight.entry.first_token()
        sent_at = flight.stride.sent_at
        flight.stride.first_token(sent_at + (report.at - sent_at) * self._blur())
        self._sharing.first_token(report.at, flight.shared)

    def _blur(self) -> float:
        """What a gateway's clock makes of a time: a factor about 1."""
        return self._noise.lognormvariate(0.0, self._setup.noise) if self._setup.noise else 1.0

    def _end(self, flight: _Flight, now: float, failure: str = "") -> None:
        self._close(flight, now, replied=self._setup.replies and not failure)
        self._ended(Ended(flight.item, flight.replica, flight.first_s, now, flight.cached_tokens, failure))

    def _close(self, flight: _Flight, now: float, *, replied: bool) -> None:
        """The attempt is over: everything is given back."""
        flight.entry.close()
        if replied:
            self.gateways[flight.gateway].replied(flight.replica, flight.item)
        self._sharing.ended(now, flight.shared, flight.replica, flight.item if replied else None)

    def _scrape(self, now: float) -> None:
        readings = []
        for number, replica in enumerate(self.replicas):
            self._advance(number, now)
            readings.append(replica.scrape())
        for gateway in self.gateways:
            gateway.scraped(readings, now)
        if self._coming or any(self._flights):
            self._at(now + self._entrant.scrape_s, self._scrape)

    def _throttle(self, throttle: Throttle, begins: bool, now: float) -> None:
        number = throttle.replica
        self._advance(number, now)
        replica = self.replicas[number]
        if begins:
            replica.throttle(throttle)
        else:
            replica.relieve(throttle)
        self._wake(number)
        if self._setup.telemetry:
            self._at(now + TELEMETRY_S, partial(self._read_clock, number))

    def _read_clock(self, number: int, _now: float) -> None:
        ratio = 1 / self.replicas[number].clock()
        for gateway in self.gateways:
            gateway.slowed(number, ratio)

    def _kill(self, kill: Kill, now: float) -> None:
        """Who streams from it is cut off; who waits for a first token is sent elsewhere, as a failover does."""
        number = kill.replica
        self._advance(number, now)
        self.replicas[number].stop(now)
        self._wakes[number] = None
        for gateway in self.gateways:
            gateway.lost(number)
        flights = list(self._flights[number].values())
        self._flights[number].clear()
        for flight in flights:
            if flight.first_s is None:
                self._close(flight, now, replied=False)
                self._dispatch(flight, now)
            else:
                self._end(flight, now, "broken")

    def _rejoin(self, kill: Kill, _now: float) -> None:
        self.replicas[kill.replica].start()
        for gateway in self.gateways:
            gateway.rejoined(kill.replica)
