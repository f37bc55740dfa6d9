"""OpenAI's SDK for Node. `make clients` installs it; its requests come by undici, Node's own HTTP client."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.emulator.expected import expected_text
from tests.clients.conftest import HELLO, WEATHER

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent / "node"


@pytest.fixture
def node(program: Callable[[str, str], str]) -> str:
    if not (HERE / "node_modules/openai").is_dir():
        pytest.skip("no openai for Node: `make clients`")
    return program("node", "`apt-get install nodejs`")


def test_what_a_node_program_sees(node: str, api_url: str) -> None:
    """Chats streamed, whole and left; tools, responses, embeddings, an upload, models, errors and headers."""
    command = [node, str(HERE / "client.mjs"), api_url, json.dumps(WEATHER)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["whole"] == seen["streamed"] == expected_text(HELLO, 20)
    assert seen["chunks"] > 2
    assert seen["usage"] == 20
    assert seen["tool"] == ["weather", {"city": "river stone", "days": 7}]
    assert seen["responses"] != ""
    assert seen["last"] in ("response.completed", "response.incomplete")
    assert seen["vectors"][0] == seen["vectors"][1] > 0
    assert seen["sound"] != ""
    assert seen["models"] == ["emulated"]
    assert seen["error"] == ["NotFoundError", 404, "model_not_found", "model", True]
    assert seen["replica"].startswith("emulated-")
