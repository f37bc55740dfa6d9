"""One GET of a page that someone else writes: bounded in bytes and in time."""

from collections.abc import Mapping

import anyio
import httpx

from gateway.telemetry.poller import NoAnswer

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""A page of vLLM is 61 KB, one of dcgm-exporter with eight GPUs and every field 100 KB."""

_PLAIN = {"accept-encoding": "identity"}  # a few bytes of gzip may be gigabytes


async def fetch(
    http: httpx.AsyncClient,
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
) -> bytes:
    """The body of an answer of status 200. Raises `NoAnswer`, which says what was wrong."""
    try:
        # httpx's own time-outs are for each read, and an answer that trickles would never end.
        with anyio.fail_after(timeout_s):
            sent = {**_PLAIN, **(headers or {})}
            async with http.stream("GET", url, headers=sent, params=params, timeout=timeout_s) as response:
                return await _body(response)
    except TimeoutError:
        raise NoAnswer(f"no whole answer in {timeout_s} s") from None
    except httpx.LocalProtocolError:  # its text may quote the key
        raise NoAnswer("the request could not be written; is there a line break in its api_key?") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(f"{type(error).__name__} {error}".strip()) from None


async def _body(response: httpx.Response) -> bytes:
    if response.status_code != 200:
        raise NoAnswer(f"status {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise NoAnswer("an answer that is compressed, which was not asked for")
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_PAGE_BYTES:
            raise NoAnswer(f"a page of more than {MAX_PAGE_BYTES} bytes")
    return bytes(body)
