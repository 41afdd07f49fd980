"""TLS of the client: authorities, client certificates, names, and keys that are left nowhere."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from relay.config.exporter.types import ClientTls, SecretRef
from relay.runtime.errors import SecretError
from relay.sink.http.client import Transport
from relay.sink.http.response import HttpFailure, HttpResponse
from relay.sink.http.tls import TlsMaterial, build_context, read_material
from tests.kit.http.client_calls import failure_of, http_request
from tests.kit.http.otlp_server import OtlpServer


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *, client_certificates: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    if client_certificates:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    return context


def client_material(authority: trustme.CA) -> TlsMaterial:
    certificate = authority.issue_cert("relay@example.org")
    return TlsMaterial(
        ca=authority.cert_pem.bytes().decode(),
        certificate=b"".join(pem.bytes() for pem in certificate.cert_chain_pems).decode(),
        key=certificate.private_key_pem.bytes().decode(),
    )


async def test_custom_ca_and_client_certificate(
    transport: Transport, authority: trustme.CA
) -> None:
    context = transport.context(client_material(authority))
    async with OtlpServer(tls=server_context(authority, client_certificates=True)) as server:
        answer = await transport.post(http_request(server.url, tls=context))
        assert isinstance(answer, HttpResponse), answer
        assert server.received[0].peer_certificate


async def test_client_certificate_missing(transport: Transport, authority: trustme.CA) -> None:
    context = transport.context(TlsMaterial(ca=authority.cert_pem.bytes().decode()))
    async with OtlpServer(tls=server_context(authority, client_certificates=True)) as server:
        answer = await failure_of(transport, http_request(server.url, tls=context))
    # TLS 1.3 tells after the handshake; which of the two arrives first is up to the sockets.
    assert answer.kind in ("tls_failed", "disconnected")


@pytest.mark.parametrize("name", ["localhost", "other.example"])
async def test_server_name_is_what_the_certificate_must_say(
    transport: Transport, authority: trustme.CA, name: str
) -> None:
    context = transport.context(TlsMaterial(ca=authority.cert_pem.bytes().decode()))
    async with OtlpServer(tls=server_context(authority)) as server:
        answer = await transport.post(http_request(server.url, tls=context, server_name=name))
    if name == "localhost":
        assert isinstance(answer, HttpResponse)
    else:
        assert isinstance(answer, HttpFailure)
        assert answer.kind == "tls_failed"
        assert "other.example" in answer.message


async def test_unknown_authority_unless_verification_is_off(
    transport: Transport, authority: trustme.CA
) -> None:
    strict = transport.context(TlsMaterial())
    lax = transport.context(TlsMaterial(insecure_skip_verify=True))
    async with OtlpServer(tls=server_context(authority)) as server:
        answer = await failure_of(transport, http_request(server.url, tls=strict))
        assert answer.kind == "tls_failed"
        assert isinstance(await transport.post(http_request(server.url, tls=lax)), HttpResponse)


async def test_contexts_are_shared_and_let_go(transport: Transport) -> None:
    first = transport.context(TlsMaterial(insecure_skip_verify=True))
    assert transport.context(TlsMaterial(insecure_skip_verify=True)) is first
    assert transport.statistics().contexts == 1
    del first
    assert transport.statistics().contexts == 0


def test_old_tls_is_refused() -> None:
    context = build_context(TlsMaterial(insecure_skip_verify=True))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "material",
    [
        TlsMaterial(ca="sesame"),
        TlsMaterial(ca="sésame"),
        TlsMaterial(certificate="sesame", key="sesame"),
        TlsMaterial(certificate="sesame", key="sesame", insecure_skip_verify=True),
    ],
)
def test_faulty_pem_is_a_secret_error_without_the_secret(material: TlsMaterial) -> None:
    with pytest.raises(SecretError) as caught:
        build_context(material)
    assert "same" not in str(caught.value)
    assert "same" not in repr(material)


def test_key_of_another_certificate_and_encrypted_key(authority: trustme.CA) -> None:
    mine, other = client_material(authority), client_material(authority)
    key = serialization.load_pem_private_key(mine.key.encode(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"sesame"),
    ).decode()
    build_context(mine)
    for wrong in (other.key, encrypted):
        with pytest.raises(SecretError):
            build_context(TlsMaterial(certificate=mine.certificate, key=wrong))


def test_no_key_is_left_behind(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    build_context(client_material(authority))
    with pytest.raises(SecretError):
        build_context(TlsMaterial(certificate="sesame", key="sesame"))
    assert list(tmp_path.iterdir()) == []


def test_material_comes_from_the_named_secrets() -> None:
    tls = ClientTls(SecretRef("authority"), SecretRef("mine"), "name.example")
    values = {("authority", "ca.crt"): "A", ("mine", "tls.crt"): "C", ("mine", "tls.key"): "K"}
    material = read_material(tls, lambda ref, key: values[ref.name, ref.key or key])
    assert material == TlsMaterial("A", "C", "K", "name.example")
