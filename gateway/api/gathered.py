"""The admin port of several processes: it asks each at its own, private one, and gives one answer."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import anyio
import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.admin import PROMETHEUS_TEXT
from gateway.api.answers import NO_STORE, body_of, error_response, json_response
from gateway.api.dashboard import DashboardState, ReplicaRow
from gateway.errors import GatewayError, Unavailable
from gateway.observability.sums import Sums

HOP_BY_HOP = frozenset(
    ("host", "connection", "content-length", "transfer-encoding", "content-encoding", "date", "server", "expect")
)
ONLY_ASKED = "/admin/explain"
"""The one POST that changes nothing: any process can answer it. All others are told to every process."""


@dataclass(eq=False, slots=True)
class Peer:
    """One process's private admin port, and its metrics as last read."""

    http: httpx.AsyncClient
    page: bytes = b""


class _Replicas(msgspec.Struct):
    replicas: list[ReplicaRow]


class Gathered:
    """An ASGI application. Who may ask is decided by the processes, who are handed the client's headers."""

    def __init__(self, peers: Callable[[], Sequence[Peer]], sums: Sums, max_body_bytes: int) -> None:
        self._peers = peers
        self._sums = sums
        self._limit = max_body_bytes
        self.orders: dict[str, httpx.Request] = {}
        """The newest command about each thing, for processes that start later."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(Request(scope, receive))
        except GatewayError as error:
            answer = error_response(error)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        body = await body_of(request, self._limit)
        peers = self._peers()
        asks_all = path in ("/metrics", "/dashboard/state.json", "/admin/replicas")
        if not asks_all and (request.method != "POST" or path == ONLY_ASKED):
            peers = peers[:1]
        answers = await _ask(peers, request, body)
        if not answers:
            raise Unavailable("no process of the gateway answers", retry_after_s=1)
        first = next(iter(answers.values()))
        if not asks_all or request.method != "GET" or first.status_code != 200:
            if request.method == "POST" and first.is_success and path != ONLY_ASKED:
                self.orders[path.rpartition("/")[0]] = first.request
            return _passed_on(first)
        if path == "/metrics":
            for peer, page in answers.items():
                if page.status_code == 200:
                    peer.page = page.content
            pages = [peer.page for peer in peers]
            return Response(self._sums.render(pages), headers={"content-type": PROMETHEUS_TEXT})
        return _merged(path, [answer.content for answer in answers.values() if answer.status_code == 200])

    async def brief(self, peer: Peer) -> None:
        """Tell a process that starts what the others were told."""
        for order in self.orders.values():
            with suppress(httpx.TransportError):  # it may have died already
                await peer.http.post(order.url.raw_path.decode(), content=order.content, headers=order.headers)


async def _ask(peers: Sequence[Peer], request: Request, body: bytes) -> dict[Peer, httpx.Response]:
    """The answers of those that give one, in the order of the peers."""
    answers: dict[Peer, httpx.Response | None] = dict.fromkeys(peers)
    headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
    target = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path

    async def ask(peer: Peer) -> None:
        try:
            answers[peer] = await peer.http.request(request.method, target, content=body, headers=headers)
        except httpx.TransportError:
            pass  # it has just ended

    async with anyio.create_task_group() as group:
        for peer in peers:
            group.start_soon(ask, peer)
    return {peer: answer for peer, answer in answers.items() if answer is not None}


def _passed_on(answer: httpx.Response) -> Response:
    headers = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
    return Response(answer.content, answer.status_code, headers)


def _merged(path: str, bodies: Sequence[bytes]) -> Response:
    if path == "/admin/replicas":
        rows = [msgspec.json.decode(body, type=_Replicas).replicas for body in bodies]
        return json_response({"replicas": merged_rows(rows)}, NO_STORE)
    return json_response(merged_state([msgspec.json.decode(body, type=DashboardState) for body in bodies]), NO_STORE)


def merged_state(states: Sequence[DashboardState]) -> DashboardState:
    """One state of all processes. Its quantiles are means weighted by traffic, near the truth when clients mix."""
    return msgspec.structs.replace(
        states[0],
        uptime_s=max(state.uptime_s for state in states),
        draining=any(state.draining for state in states),
        replicas=merged_rows([state.replicas for state in states]),
        **_figures(states, ("ttft_p50_s", "ttft_p95_s")),
    )


def merged_rows(groups: Sequence[Sequence[ReplicaRow]]) -> list[ReplicaRow]:
    """The replicas that the first process knows; what the others have sent there is added."""
    rows: list[ReplicaRow] = []
    for row in groups[0]:
        same = [row, *(other for group in groups[1:] for other in group if other.name == row.name)]
        rows.append(msgspec.structs.replace(row, **_figures(same, ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s"))))
    return rows


def _figures(parts: Sequence[DashboardState] | Sequence[ReplicaRow], quantiles: Iterable[str]) -> dict[str, object]:
    sums = ("in_flight", "requests", "failures", "requests_per_s", "tokens_per_s")
    figures: dict[str, object] = {name: _sum([getattr(part, name) for part in parts]) for name in sums}
    for name in quantiles:
        figures[name] = _mean([(getattr(part, name), part.requests_per_s or 0.0) for part in parts])
    return figures


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(weighted: Sequence[tuple[float | None, float]]) -> float | None:
    known = [(value, weight) for value, weight in weighted if value is not None and weight > 0]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if known else None
