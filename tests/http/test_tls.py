"""TLS on both sides: clients that speak https, and replicas that do."""

import ssl
from pathlib import Path

import httpx
import pytest
import trustme

from gateway.config import Resilience
from gateway.config.keys import Probe, Tls
from gateway.emulator.fleet import Fleet
from tests.running import config_for, running

pytestmark = pytest.mark.anyio

BODY = {"model": "emulated", "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 5}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Tls:
    """A certificate for the loopback address, and its key, as files."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return Tls(cert=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"))


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def stream(url: str, context: ssl.SSLContext) -> list[str]:
    async with (
        httpx.AsyncClient(trust_env=False, verify=context) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=BODY) as answer,
    ):
        assert answer.status_code == 200
        return [line async for line in answer.aiter_lines() if line]


async def test_a_client_streams_over_tls(authority, tls):
    """The public port serves https with the configured certificate; whoever does not trust it gets nothing."""
    async with Fleet(1, speed=50) as fleet, running(config_for(fleet.urls, tls=tls)) as harness:
        assert harness.url.startswith("https://")
        lines = await stream(harness.url, trusting(authority))
        assert lines[-1] == "data: [DONE]"
        with pytest.raises(httpx.ConnectError):
            await stream(harness.url, ssl.create_default_context())
        async with httpx.AsyncClient(trust_env=False, verify=trusting(authority)) as client:
            assert (await client.get(f"{harness.url}/healthz")).status_code == 200


async def test_only_clients_with_a_certificate_of_the_authority(authority, tls, tmp_path):
    """With `client_ca` a client must show a certificate that the authority has signed."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mutual = Tls(cert=tls.cert, key=tls.key, client_ca=str(tmp_path / "ca.pem"))
    async with Fleet(1, speed=50) as fleet, running(config_for(fleet.urls, tls=mutual)) as harness:
        with pytest.raises(httpx.HTTPError):
            await stream(harness.url, trusting(authority))
        known = trusting(authority)
        authority.issue_cert("client@example.org").configure_cert(known)
        assert (await stream(harness.url, known))[-1] == "data: [DONE]"


async def test_a_replica_behind_tls(authority, tls, tmp_path, monkeypatch):
    """An https replica is probed, dialled and relayed; a gateway serves as one. OpenSSL's own variable says whom the
    gateway trusts beside the system's authorities."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with (
        Fleet(1, speed=50) as fleet,
        running(config_for(fleet.urls, tls=tls)) as inner,
        running(config_for([inner.url], resilience=Resilience(probe=Probe(path="/healthz")))) as outer,
    ):
        assert (await stream(outer.url, ssl.create_default_context()))[-1] == "data: [DONE]"
        assert [record["status"] for record in await outer.settled(1)] == [200]


async def test_a_replica_with_a_wrong_certificate_is_no_replica(tls):
    """Nothing is sent to a replica whose certificate nobody has signed that the gateway trusts."""
    async with (
        Fleet(1, speed=50) as fleet,
        running(config_for(fleet.urls, tls=tls)) as inner,
        running(config_for([inner.url]), wait_ready=False) as outer,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        answer = await client.post(f"{outer.url}/v1/chat/completions", json={**BODY, "model": None})
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "server_error")
        assert inner.records() == []
