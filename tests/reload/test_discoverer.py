"""From a source to the fleet, over real files and sockets."""

from pathlib import Path

import anyio
import msgspec
import pytest

from gateway.config import Config, Discovery
from gateway.config.keys import Kubernetes
from gateway.core.types import ReplicaState
from gateway.discovery.dns import Addresses, Services
from gateway.discovery.file import ListFile
from gateway.discovery.kubernetes import EndpointSlices
from gateway.emulator.fleet import Fleet
from gateway.reload.discoverer import source_of
from tests.http.test_members import OFTEN, states, until
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio
READY = ReplicaState.READY


def config_with(discovery: Discovery, *urls: str) -> Config:
    return msgspec.structs.replace(config_for(urls, resilience=OFTEN), discovery=discovery)


def failures(harness: Running) -> float:
    return harness.gateway.metrics.unread.labels("discovery").value


def entries(*urls: str) -> str:
    return "".join(f"- {{url: {url}, name: f{number}}}\n" for number, url in enumerate(urls))


@pytest.mark.parametrize(
    ("discovery", "kind"),
    [
        (Discovery(), type(None)),
        (Discovery(dns="x"), Services),
        (Discovery(dns="x", port=1), Addresses),
        (Discovery(file="x"), ListFile),
        (Discovery(kubernetes=Kubernetes(selector="a=b")), EndpointSlices),
    ],
)
def test_which_source(discovery: Discovery, kind: type) -> None:
    """Each kind by its key."""
    assert type(source_of(discovery)) is kind


@pytest.mark.slow
async def test_a_file_joins_what_is_configured_and_never_empties_the_fleet(tmp_path: Path) -> None:
    """One with an error counts as no answer; what another list has by its URL is not found twice."""
    file = tmp_path / "fleet.yaml"
    async with Fleet(3) as fleet:
        file.write_text(entries(*fleet.urls[:2]), encoding="utf-8")
        config = config_with(Discovery(file=str(file)), fleet.urls[0])
        async with running(config) as h:
            await until(h, f1=READY, r0=READY)
            file.write_text("- {url: ", encoding="utf-8")
            with anyio.fail_after(10):
                while not failures(h):
                    await anyio.sleep(0.01)
            assert states(h) == {"f1": READY, "r0": READY}
            file.write_text(entries(*fleet.urls), encoding="utf-8")
            await until(h, f1=READY, f2=READY, r0=READY)
            file.write_text("[]", encoding="utf-8")
            await until(h, r0=READY)


@pytest.mark.slow
async def test_a_name_that_is_resolved() -> None:
    """DNS alone is a fleet, too; another source takes its place when it has answered, none ends it."""
    async with Fleet(1) as fleet:
        port = int(fleet.urls[0].rpartition(":")[2])
        async with running(config_with(Discovery(dns="127.0.0.1", port=port)), wait_ready=False) as h:
            await until(h, **{f"127.0.0.1:{port}": READY})
            h.gateway.discoverer.configure(Discovery(file="/nowhere/to/be/found"))
            with anyio.fail_after(10):
                while not failures(h):
                    await anyio.sleep(0.01)
            assert states(h) == {f"127.0.0.1:{port}": READY}
            h.gateway.discoverer.configure(Discovery())
            await until(h)
