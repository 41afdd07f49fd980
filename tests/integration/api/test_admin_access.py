"""Who may read the admin listener."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme

from relay.api.access import Gate
from relay.api.admin import AdminServer
from relay.api.contract import StatusFilter
from relay.config.settings.ingest_security import Admin, SenderAuthentication, ServerTls
from relay.control.explain import ExplainQuery
from relay.runtime.errors import ConfigError
from relay.telemetry.registry import Snapshot, Telemetry
from tests.kit.ingest_server import LOOPBACK


class Nothing:
    """A moment of which there is nothing to say."""

    def snapshot(self) -> Snapshot:
        """The figures."""
        return Snapshot(version="1")

    def status(self, wanted: StatusFilter) -> object:
        """The document."""
        return {"project": wanted.project}


async def look() -> Nothing:
    """As of now."""
    return Nothing()


async def explain(_question: ExplainQuery) -> list[str]:
    """No lines."""
    return []


@asynccontextmanager
async def serving(access: Admin) -> AsyncIterator[str]:
    """An admin listener; gives its host and port."""
    server = AdminServer(
        LOOPBACK,
        Telemetry(),
        not_ready=list,
        degraded=list,
        measure=look,
        look=look,
        explain=explain,
        access=access,
    )
    await server.start()
    try:
        yield str(server.address)
    finally:
        await server.stop()


async def status_of(address: str, path: str, **headers: str) -> int:
    """The status of a GET with these headers."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}", headers=headers) as answer,
    ):
        return answer.status


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:9491", True),
        ("10.1.2.3", True),
        ("[::1]:9491", True),
        ("[fd00::1]", True),
        ("localhost", True),
        ("LOCALHOST:9491", True),
        ("relay.localhost", True),
        ("relay:9491", True),
        (f"{socket.gethostname()}:9491", True),
        ("relay.monitoring.svc:9491", True),
        ("a.relay.example.com", True),
        ("relay.example.com", False),
        ("evil.example.net", False),
        ("evil.example.net:9491", False),
        ("127.0.0.1.evil.net", False),
        ("localhost.evil.net", False),
        ("xlocalhost.", True),
        ("[evil.net]", False),
        ("evil.net/127.0.0.1", False),
        ("", False),
        ("a b", False),
        (None, True),
    ],
)
def test_hosts(host: str | None, known: bool) -> None:
    gate = Gate(Admin(hosts=("relay.monitoring.svc", "*.relay.example.com")), {})
    assert gate.knows(host) is known


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/explain?series=up"])
async def test_a_strangers_name_is_refused(path: str) -> None:
    async with serving(Admin()) as address:
        assert await status_of(address, path, Host="evil.example.net") == 421
        assert await status_of(address, path, Host="10.9.8.7:9491") == 200
        assert await status_of(address, path) == 200


async def test_a_token_is_demanded_of_all_but_probes() -> None:
    bearer = SenderAuthentication("bearer", token="let-me-in")
    async with serving(Admin(authentication=bearer)) as address:
        for path in ("/", "/status", "/metrics", "/explain?series=up", "/nothing"):
            assert await status_of(address, path) == 401
            assert await status_of(address, path, Authorization="Bearer wrong") == 401
        good = {"Authorization": "Bearer let-me-in"}
        assert await status_of(address, "/status", **good) == 200
        assert await status_of(address, "/status", Host="evil.example.net", **good) == 421
        for path in ("/healthz", "/readyz"):
            assert await status_of(address, path, Host="evil.example.net") == 200


async def test_too_many_that_wait_are_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.api.admin.WAITING_MAX", 0)
    async with serving(Admin()) as address:
        for path in ("/status", "/metrics", "/explain?series=up"):
            assert await status_of(address, path) == 503
        assert await status_of(address, "/healthz") == 200


async def test_tls(tmp_path: Path) -> None:
    """Every page is served with the certificate, and none without TLS."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    pem, ca = tmp_path / "tls.pem", tmp_path / "ca.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(ca))
    trusting = ssl.create_default_context(cafile=str(ca))
    async with (
        serving(Admin(tls=ServerTls(pem, pem))) as address,
        aiohttp.ClientSession() as session,
    ):
        for path in ("/", "/status", "/metrics", "/healthz", "/readyz"):
            async with session.get(f"https://{address}{path}", ssl=trusting) as answer:
                assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://{address}/status")
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://{address}/status")


async def test_tls_demands_a_clients_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem, ca = tmp_path / "tls.pem", tmp_path / "ca.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(ca))
    nobody = ssl.create_default_context(cafile=str(ca))
    known = ssl.create_default_context(cafile=str(ca))
    authority.issue_cert("operator.platform").configure_cert(known)
    async with (
        serving(Admin(tls=ServerTls(pem, pem, ca))) as address,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"https://{address}/status", ssl=known) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"https://{address}/status", ssl=nobody)


async def test_a_certificate_that_does_not_serve_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        async with serving(Admin(tls=ServerTls(tmp_path / "none", tmp_path / "none"))):
            pass
    (fault,) = caught.value.faults
    assert fault.path == "admin.tls"
