"""Health probes: a replica answers well when its health path says 200 and it lists its models."""

import anyio
import httpx

from gateway.core.types import ModelsReading, Replica
from gateway.telemetry.models import ModelsReader
from gateway.telemetry.poller import NoAnswer

PATHLESS_ENGINE = "openai"
"""Servers of which only OpenAI's API is known; they need not have a health path."""


class Prober:
    """Asks one replica at a time. vLLM's /health knows a dead engine only: a draining or frozen one says 200, too, so
    that what requests meet counts beside it."""

    def __init__(self, http: httpx.AsyncClient, *, path: str, timeout_s: float) -> None:
        self._http = http
        self._path = path
        self._timeout_s = timeout_s
        self._models = ModelsReader(http)

    async def ask(self, replica: Replica) -> ModelsReading:
        """The models that it serves. Raises `NoAnswer`, which says which of the two it did not answer, and how."""
        if replica.engine != PATHLESS_ENGINE:
            await self._ask_health(replica)
        return await self._models.ask(replica)

    async def _ask_health(self, replica: Replica) -> None:
        headers = {"authorization": f"Bearer {replica.api_key}"} if replica.api_key else {}
        url = f"{replica.url}{self._path}"
        try:
            # The head is all that counts, however long the body would be; without one the connection is kept.
            with anyio.fail_after(self._timeout_s):
                async with self._http.stream("GET", url, headers=headers) as response:
                    status = response.status_code
                    if response.headers.get("content-length") == "0":
                        await response.aread()
        except TimeoutError:
            raise NoAnswer(f"{self._path}: nothing in {self._timeout_s} s") from None
        except httpx.LocalProtocolError:  # its text may quote the key
            raise NoAnswer("the request could not be written; is there a line break in its api_key?") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(f"{self._path}: {type(error).__name__} {error}".strip()) from None
        if status != 200:
            raise NoAnswer(f"{self._path}: status {status}")
