"""Who may send: credentials, TLS and client certificates."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from relay.config.settings.settings import Ingest, SenderAuthentication, ServerTls
from relay.receiver.authentication import Authenticator
from relay.receiver.http.tls import server_context
from relay.runtime.errors import ConfigError
from tests.kit.ingest_server import running
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import LOGS, TRACES, Kind

_BEARER = SenderAuthentication(type="bearer", token="correct-horse-battery")
_BASIC = SenderAuthentication(type="basic", username="platform", password="pä:ss")


def _basic(userinfo: str) -> str:
    return f"Basic {base64.b64encode(userinfo.encode()).decode()}"


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        (SenderAuthentication(), None),
        (SenderAuthentication(), "Bearer whatever"),
        (_BEARER, "Bearer correct-horse-battery"),
        (_BEARER, "bearer  correct-horse-battery "),
        (_BASIC, _basic("platform:pä:ss")),
        (_BASIC, _basic("platform:pä:ss").replace("Basic", "BASIC")),
    ],
)
def test_lets_in(settings: SenderAuthentication, header: str | None) -> None:
    assert Authenticator(settings).allows(header)


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        (_BEARER, None),
        (_BEARER, ""),
        (_BEARER, "Bearer"),
        (_BEARER, "Bearer "),
        (_BEARER, "correct-horse-battery"),
        (_BEARER, "Bearer correct-horse-batter"),
        (_BEARER, "Bearer correct-horse-battery2"),
        (_BEARER, "Bearer CORRECT-HORSE-BATTERY"),
        (_BEARER, "Bearer \udcff\udcfe"),
        (_BEARER, _basic("correct-horse-battery:")),
        (_BASIC, None),
        (_BASIC, "Basic"),
        (_BASIC, "Basic !!!"),
        (_BASIC, "Basic \udcff"),
        (_BASIC, _basic("platform")),
        (_BASIC, _basic("platform:")),
        (_BASIC, _basic("platform:pa:ss")),
        (_BASIC, _basic("other:pä:ss")),
        (_BASIC, "Bearer pä:ss"),
    ],
)
def test_keeps_out(settings: SenderAuthentication, header: str | None) -> None:
    assert not Authenticator(settings).allows(header)


def test_repr_holds_no_secret() -> None:
    assert repr(Authenticator(_BEARER)) == "<Authenticator bearer>"


@pytest.mark.parametrize(
    ("settings", "header", "challenge"),
    [
        (_BEARER, "Bearer correct-horse-battery", 'Bearer realm="relay"'),
        (_BASIC, _basic("platform:pä:ss"), 'Basic realm="relay", charset="UTF-8"'),
    ],
    ids=["bearer", "basic"],
)
async def test_credentials_come_before_the_body(
    settings: SenderAuthentication, header: str, challenge: str
) -> None:
    async with running(Ingest(authentication=settings)) as relay:
        reply = await relay.send(b"\xff" * 1000)
        assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, challenge)
        # Not even the media type, the probe or the size of a stranger's request is looked at.
        assert (await relay.send(headers={"Content-Type": "application/json"})).status == 401
        assert (await relay.send(b"", path="/api/v1/write?get_vm_proto_version=1")).status == 401
        figures = relay.server.statistics()
        assert (figures.refused["unauthenticated"], figures.compressed_bytes) == (3, 0)

        assert (await relay.send(headers={"Authorization": header})).status == 204
        assert len(relay.taker.calls) == 1


class Pki:
    """An authority, a server's certificate by it, and where their files are."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("127.0.0.1")
        self.certificate = directory / "tls.crt"
        self.key = directory / "tls.key"
        self.ca = directory / "ca.crt"
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.authority.cert_pem.write_to_path(str(self.ca))

    def client(self) -> ssl.SSLContext:
        """A client that trusts the server and shows nothing."""
        return ssl.create_default_context(cafile=str(self.ca))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


async def test_tls(pki: Pki) -> None:
    settings = Ingest(tls=ServerTls(pki.certificate, pki.key))
    async with running(settings, client_tls=pki.client()) as relay:
        assert (await relay.send()).status == 204


@pytest.mark.parametrize("kind", [LOGS, TRACES], ids=["logs", "traces"])
async def test_records_over_tls_and_with_credentials(pki: Pki, kind: Kind) -> None:
    settings = Ingest(authentication=_BEARER, tls=ServerTls(pki.certificate, pki.key))
    async with running(settings, client_tls=pki.client()) as relay:
        path = "/v1/logs" if kind is LOGS else "/v1/traces"
        otlp = {"Content-Type": "application/x-protobuf"}
        body = request_of(kind, [1.0])
        reply = await relay.send(body, path=path, headers=otlp)
        assert (reply.status, relay.taker.calls) == (401, [])
        otlp["Authorization"] = "Bearer correct-horse-battery"
        assert (await relay.send(body, path=path, headers=otlp)).status == 200
        assert len(relay.taker.calls) == 1


async def test_tls_1_1_is_refused(pki: Pki) -> None:
    client = pki.client()
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    settings = Ingest(tls=ServerTls(pki.certificate, pki.key))
    async with running(settings, client_tls=client) as relay:
        with pytest.raises(aiohttp.ClientConnectorError):
            await relay.send()
        assert not relay.taker.calls


async def test_client_certificates(pki: Pki) -> None:
    settings = Ingest(tls=ServerTls(pki.certificate, pki.key, pki.ca))
    client = pki.client()
    pki.authority.issue_cert("vmagent.platform").configure_cert(client)
    async with running(settings, client_tls=client) as relay:
        assert (await relay.send()).status == 204


@pytest.mark.parametrize("stranger", [False, True], ids=["none", "strangers"])
async def test_without_a_good_client_certificate(pki: Pki, stranger: bool) -> None:
    settings = Ingest(tls=ServerTls(pki.certificate, pki.key, pki.ca))
    client = pki.client()
    if stranger:
        trustme.CA().issue_cert("vmagent.platform").configure_cert(client)
    async with running(settings, client_tls=client) as relay:
        with pytest.raises((aiohttp.ClientConnectionError, aiohttp.ClientOSError)):
            await relay.send()
        assert not relay.taker.calls
        assert relay.server.statistics().requests == {}


def _encrypted(key: Path, into: Path) -> Path:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    into.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    return into


def test_faulty_files_are_faults_of_the_settings(pki: Pki, tmp_path: Path) -> None:
    """Also an encrypted key: it must not stop the start to ask a terminal for its password."""
    missing = tmp_path / "missing"
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x00")
    encrypted = _encrypted(pki.key, tmp_path / "encrypted")
    for tls, setting in [
        (ServerTls(missing, pki.key), "ingest.tls"),
        (ServerTls(garbage, pki.key), "ingest.tls"),
        (ServerTls(pki.certificate, pki.ca), "ingest.tls"),
        (ServerTls(pki.certificate, encrypted), "ingest.tls"),
        (ServerTls(pki.certificate, pki.key, missing), "ingest.tls.clientCaFile"),
        (ServerTls(pki.certificate, pki.key, garbage), "ingest.tls.clientCaFile"),
    ]:
        with pytest.raises(ConfigError) as caught:
            server_context(tls)
        assert [fault.path for fault in caught.value.faults] == [setting]
