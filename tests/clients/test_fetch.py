"""A web page of another origin that streams a chat by `fetch`, in a real browser."""

import http.server
import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.emulator.expected import expected_text
from tests.browser.conftest import FLAGS
from tests.clients.conftest import HELLO
from tests.processes import serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE_S = 60

PAGE = """<!doctype html><meta charset="utf-8"><title>chat</title><script type="module">
const told = {}
const chat = (fields, more) => fetch(API + "/chat/completions", {
  method: "POST",
  headers: {"authorization": "Bearer unused", "content-type": "application/json", "x-session-id": "page"},
  body: JSON.stringify({model: "emulated", messages: [{role: "user", content: HELLO}], ...fields}),
  ...more
})
async function ask(fields) {
  const answer = await chat(fields)
  const header = name => answer.headers.get(name)
  let reads = 0, text = ""
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  for (let step = await reader.read(); !step.done; step = await reader.read()) { reads += 1; text += step.value }
  return {status: answer.status, id: header("x-request-id"), replica: header("x-gateway-replica"), reads, text}
}
try {
  told.stream = await ask({stream: true, max_tokens: 200})
  told.whole = await ask({max_tokens: 20})
  told.error = await ask({model: "none"})
  told.models = (await (await fetch(API + "/models")).json()).data.map(model => model.id)
  const leaving = new AbortController()
  const long = await chat({stream: true, max_tokens: 5000}, {signal: leaving.signal})
  await long.body.getReader().read()
  leaving.abort()
  told.after = await ask({max_tokens: 20})
} catch (error) { told.failed = String(error) }
await fetch("/told", {method: "POST", body: JSON.stringify(told)})
</script>"""


class Site:
    """A web server of another origin, with one page; `told` is what the page has posted back."""

    def __init__(self) -> None:
        self.page = ""
        self.told: queue.Queue[Any] = queue.Queue()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("text/html", site.page.encode())

            def do_POST(self) -> None:
                site.told.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self._answer("text/plain", b"")

            def _answer(self, content_type: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def served() -> Iterator[Site]:
    site = Site()
    with site.server as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(chromium: str, profile: Path, url: str) -> Iterator[None]:
    """A browser that shows this address, in real time."""
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def seen_by_page(chromium: str, profile: Path, allowed: str | None) -> dict[str, Any]:
    """What the page has seen; `allowed`: the config's one origin, `None` for the page's own."""
    with served() as site, serving(GATEWAY_SERVER__CORS_ORIGINS=json.dumps([allowed or site.origin])) as gateway:
        site.page = PAGE.replace("API", json.dumps(gateway.api_url)).replace("HELLO", json.dumps(HELLO))
        with opened(chromium, profile, site.origin):
            told: dict[str, Any] = site.told.get(timeout=PATIENCE_S)
    return told


@pytest.mark.parametrize("allowed", [None, "*"])
def test_a_page_that_is_let_in(chromium: str, tmp_path: Path, allowed: str | None) -> None:
    """It reads a stream piece by piece, whole answers, errors, the models and our headers, and may leave."""
    seen = seen_by_page(chromium, tmp_path, allowed)
    assert "failed" not in seen, seen
    stream, whole, error, after = (seen[name] for name in ("stream", "whole", "error", "after"))
    assert stream["status"] == 200
    assert stream["reads"] > 1
    events = [line.removeprefix("data: ") for line in stream["text"].splitlines() if line]
    assert events.pop() == "[DONE]"
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"])
    assert text == expected_text(HELLO, 200)
    assert stream["id"]
    assert stream["replica"].startswith("emulated-")
    assert json.loads(whole["text"])["choices"][0]["message"]["content"] == expected_text(HELLO, 20)
    assert (error["status"], json.loads(error["text"])["error"]["code"]) == (404, "model_not_found")
    assert seen["models"] == ["emulated"]
    assert after["text"] != ""


def test_a_page_that_is_kept_out(chromium: str, tmp_path: Path) -> None:
    """Another origin than the one in the config: the browser refuses the page its very first call."""
    seen = seen_by_page(chromium, tmp_path, "https://chat.example.com")
    assert seen == {"failed": "TypeError: Failed to fetch"}
