"""What a gateway holds: by /proc, and by its own word on the admin port. Linux only."""

import os
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtest.overhead.systems import System

_TOLD = {
    "gateway_event_loop_tasks": "tasks",
    "gateway_in_flight_requests": "in_flight",
    "gateway_prefix_index_blocks": "index_blocks",
}


def held(gateway: System) -> dict[str, float]:
    """Resident MB, descriptors, sockets among them, and threads of its process."""
    links = [_target(link) for link in Path(f"/proc/{gateway.pid}/fd").iterdir()]
    return {
        "resident": gateway.resident_mb(),
        "descriptors": len(links),
        "sockets": sum(link.startswith("socket:") for link in links),
        "threads": len(os.listdir(f"/proc/{gateway.pid}/task")),
    }


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # it was the one that lists them
        return ""


async def told(http: httpx.AsyncClient, admin_url: str) -> dict[str, float]:
    """Tasks, requests in flight and blocks in the index, over all replicas; what the page lacks is left out."""
    page = (await http.get(f"{admin_url}/metrics")).raise_for_status().text
    return parse(page)


def parse(page: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        name = _TOLD.get(family.name)
        if name is not None and family.samples:
            sums[name] = sum(sample.value for sample in family.samples)
    return sums
