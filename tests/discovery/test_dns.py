"""Names in DNS: the system's resolver, and SRV records of a small server on a real UDP socket."""

import contextlib
import importlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from gateway.discovery.base import NothingFound, Template
from gateway.discovery.dns import Addresses, Services

pytestmark = pytest.mark.anyio
VLLM = Template("vllm", "k")


async def test_a_real_name() -> None:
    """`localhost` has an address on every machine; each replica has the template's engine and key."""
    (replica,) = await Addresses("localhost", 8000, VLLM).find()
    assert replica.url in ("http://127.0.0.1:8000", "http://[::1]:8000")
    assert (replica.id, replica.engine, replica.api_key) == (replica.url.removeprefix("http://"), "vllm", "k")


async def test_a_name_that_there_is_not() -> None:
    """`.invalid` never exists (RFC 2606); the error names it."""
    with pytest.raises(NothingFound, match=r"^nobody\.invalid: "):
        await Addresses("nobody.invalid", 8000, VLLM).find()
    with pytest.raises(NothingFound):
        await Addresses("a" * 64 + ".invalid", 8000, VLLM).find()


V4 = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{n}", 80)) for n in (2, 1, 2)]
V6 = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 80, 0, 0))]


@pytest.mark.parametrize(
    ("answers", "urls"),
    [
        (V4, ["http://10.0.0.1:80", "http://10.0.0.2:80"]),
        (V6, ["http://[fd00::1]:80"]),
        (V6 + V4, ["http://10.0.0.1:80", "http://10.0.0.2:80"]),
    ],
)
async def test_one_replica_for_each_address(answers: list[tuple[object, ...]], urls: list[str]) -> None:
    """Each once, in order; of machines with both kinds of addresses the IPv4 one."""

    async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return answers

    assert [replica.url for replica in await Addresses("name", 80, VLLM, resolve).find()] == urls


async def test_an_answer_that_names_nobody_is_a_failure() -> None:
    """It would empty the fleet."""

    async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return []

    with pytest.raises(NothingFound, match="names nobody"):
        await Addresses("name", 80, VLLM, resolve).find()


def srv(question: bytes, targets: list[tuple[bytes, int]], code: int = 0) -> bytes:
    """An answer to the question, as RFC 1035 and RFC 2782 have it."""
    end = question.index(b"\0", 12) + 5
    head = question[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(targets), 0, 0)
    records = b""
    for name, port in targets:
        labels = b"".join(bytes([len(part)]) + part for part in name.split(b".") if part) + b"\0"
        data = struct.pack(">HHH", 10, 5, port) + labels
        records += b"\xc0\x0c" + struct.pack(">HHIH", 33, 1, 5, len(data)) + data
    return head + question[12:end] + records


@contextlib.contextmanager
def name_server(targets: list[tuple[bytes, int]], code: int = 0) -> Iterator[tuple[str, int]]:
    """A server that gives every question this answer; an empty datagram ends it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                question, asker = sock.recvfrom(4096)
                if not question:
                    return
                sock.sendto(srv(question, targets, code), asker)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join()


async def test_srv_targets_with_their_ports() -> None:
    """By name, so that they keep it when their address changes."""
    pytest.importorskip("dns", reason="no dnspython: pip install 'vllm-gateway[dns]'")
    with name_server([(b"b.fleet.test", 8001), (b"a.fleet.test", 8000), (b"a.fleet.test", 8000)]) as server:
        found = await Services("_api._tcp.fleet.test", VLLM, [server]).find()
    assert [replica.url for replica in found] == ["http://a.fleet.test:8000", "http://b.fleet.test:8001"]
    assert {replica.api_key for replica in found} == {"k"}


@pytest.mark.parametrize(("targets", "code"), [([], 0), ([], 3), ([], 2), ([(b"", 1)], 0)])
async def test_no_service_is_a_failure(targets: list[tuple[bytes, int]], code: int) -> None:
    """An empty answer, an unknown name, a server's failure, and the target that says that there is none."""
    pytest.importorskip("dns", reason="no dnspython: pip install 'vllm-gateway[dns]'")
    with (
        name_server(targets, code) as server,
        pytest.raises(NothingFound, match=r"fleet\.test"),
    ):
        await Services("_api._tcp.fleet.test", VLLM, [server]).find()


async def test_without_the_extra_it_says_which() -> None:
    """dnspython is optional."""
    with contextlib.suppress(ImportError):
        importlib.import_module("dns.asyncresolver")
        pytest.skip("dnspython is installed: this says what is told without it")
    with pytest.raises(NothingFound, match=r"vllm-gateway\[dns\]"):
        await Services("_api._tcp.fleet.test", VLLM).find()
