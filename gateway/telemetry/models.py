"""Which models a replica serves: `GET /v1/models`, which is also the first sign that it lives."""

import httpx
import msgspec

from gateway.core.types import ModelsReading, Replica


class _Model(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Model]


_decoder = msgspec.json.Decoder(_List)


def parse_models(body: bytes) -> frozenset[str] | None:
    """The names in OpenAI's list of models; `None` if this is no such list."""
    try:
        return frozenset(model.id for model in _decoder.decode(body).data)
    except (msgspec.DecodeError, RecursionError):
        return None


class ModelsReader:
    """Asks one replica at a time over a client that is handed in, with the replica's own key."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, replica: Replica) -> ModelsReading:
        """The reading; its models are `None` when the replica did not answer, or not with a list of models."""
        headers = {"authorization": f"Bearer {replica.api_key}"} if replica.api_key else {}
        try:
            response = await self._http.get(f"{replica.url}/v1/models", headers=headers)
        except httpx.HTTPError:
            return ModelsReading(replica.id, None)
        return ModelsReading(replica.id, parse_models(response.content) if response.status_code == 200 else None)


def no_answer(reading: object) -> bool:
    """Whether this reading says that the replica did not answer."""
    return isinstance(reading, ModelsReading) and reading.models is None
