"""Which models a replica serves: `GET /v1/models`, which is also the first sign that it lives."""

import anyio
import httpx
import msgspec

from gateway.core.types import ModelsReading, Replica, ReplicaId
from gateway.telemetry.poller import NoAnswer

MAX_BODY_BYTES = 4 * 1024 * 1024
LOOK_TIMEOUT_S = 5.0
"""For the whole answer: httpx's own time-outs are per read, and a replica that trickles would never end."""


class _List(msgspec.Struct):
    data: list[object]


_decoder = msgspec.json.Decoder(_List)


def parse_models(body: bytes) -> frozenset[str] | None:
    """The names in OpenAI's list of models; `None` if this is no such list. Entries without a name are passed over.

    A list without entries is an answer; one that has only entries without a name is not.
    """
    try:
        entries = _decoder.decode(body).data
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    names = frozenset(name for entry in entries if (name := _name(entry)) is not None)
    return None if entries and not names else names


def parse_parents(body: bytes) -> tuple[tuple[str, str], ...]:
    """(adapter, its base) for each model of such a list that has a `parent`, as vLLM's LoRA adapters have."""
    pairs = set()
    for entry in _decoder.decode(body).data:
        match entry:
            case {"id": str(name), "parent": str(parent)} if name and parent:
                pairs.add((name, parent))
    return tuple(sorted(pairs))


def _name(entry: object) -> str | None:
    match entry:
        case {"id": str(name)} if name:
            return name
        case _:
            return None


class ModelsReader:
    """Asks one replica at a time over a client that is handed in, with the replica's own key."""

    def __init__(self, http: httpx.AsyncClient, *, timeout_s: float = LOOK_TIMEOUT_S) -> None:
        self._http = http
        self._timeout_s = timeout_s

    async def ask(self, replica: Replica) -> ModelsReading:
        """The models that the replica serves. Raises `NoAnswer` when it did not answer with a list of models."""
        try:
            with anyio.fail_after(self._timeout_s):
                body = await self._body(replica)
        except TimeoutError:
            raise NoAnswer(f"no whole answer in {self._timeout_s} s") from None
        except httpx.LocalProtocolError:  # its text may quote the key
            raise NoAnswer("the request could not be written; is there a line break in its api_key?") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(f"{type(error).__name__} {error}".strip()) from None
        models = parse_models(body)
        if models is None:
            raise NoAnswer("its answer is no list of models")
        return ModelsReading(replica.id, models, parse_parents(body))

    async def _body(self, replica: Replica) -> bytes:
        headers = {"authorization": f"Bearer {replica.api_key}"} if replica.api_key else {}
        async with self._http.stream("GET", f"{replica.url}/v1/models", headers=headers) as response:
            if response.status_code != 200:
                raise NoAnswer(f"status {response.status_code}")
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise NoAnswer(f"a list of more than {MAX_BODY_BYTES} bytes")
            return bytes(body)


def no_answer(replica: ReplicaId) -> ModelsReading:
    """The reading which says that the replica did not answer."""
    return ModelsReading(replica, None)
