"""The API's own certificate authority and server certificate, below the data directory.

The authority is made once; the server's certificate is made anew where it is missing, near its end,
of another authority, or for other host names. Keys are P-256 and have mode 0600.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.runtime.errors import ConfigError, Fault

CA_FILE: Final = "api-ca.crt"
_CA_KEY_FILE: Final = "api-ca.key"
CERTIFICATE_FILE: Final = "api.crt"
KEY_FILE: Final = "api.key"
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_CA_DAYS: Final = 3650
_SERVER_DAYS: Final = 365
_RENEW_DAYS: Final = 30
_CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of the authority's certificate, and of the server's certificate and key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Signed:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure_certificates(
    directory: Path, hostnames: Sequence[str], now: datetime | None = None
) -> CertificateFiles:
    """Return valid certificates for the host names; raise ConfigError if files cannot be used."""
    at = now or datetime.now(UTC)
    files = CertificateFiles(
        directory / CA_FILE, directory / CERTIFICATE_FILE, directory / KEY_FILE
    )
    names = tuple(dict.fromkeys((*LOCAL_NAMES, *hostnames)))
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _authority(files.ca, directory / _CA_KEY_FILE, at)
        if not _is_usable(files, authority, names, at):
            made = _server(authority, names, at)
            _write(files.key, _key_bytes(made.key), 0o600)
            _write(files.certificate, _certificate_bytes(made.certificate), 0o644)
    except (OSError, ValueError, TypeError) as error:
        message = f"cannot keep certificates in {directory}: {error}"
        raise ConfigError((Fault("api.tls", message),)) from error
    return files


def _authority(path: Path, key_path: Path, at: datetime) -> _Signed:
    if path.exists() and key_path.exists():
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_path.name} is not the key of this relay's authority")
        if certificate.not_valid_after_utc - at > timedelta(days=_RENEW_DAYS):
            return _Signed(certificate, key)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay API CA")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    since, until = at - _CLOCK_SKEW, at + timedelta(days=_CA_DAYS)
    certificate = (
        _builder(name, name, key.public_key(), since, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _key_bytes(key), 0o600)
    _write(path, _certificate_bytes(certificate), 0o644)
    return _Signed(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    since: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _server(authority: _Signed, names: Sequence[str], at: datetime) -> _Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay API")])
    issuer = authority.certificate
    # It is good from the beginning: a clock that is ahead while it is made does no harm later.
    since = issuer.not_valid_before_utc
    until = max(at, since) + timedelta(days=_SERVER_DAYS)
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), since, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    return _Signed(certificate, key)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _is_usable(
    files: CertificateFiles, authority: _Signed, names: Sequence[str], at: datetime
) -> bool:
    if not files.certificate.exists() or not files.key.exists():
        return False
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    if certificate.not_valid_after_utc - at < timedelta(days=_RENEW_DAYS):
        return False
    issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    if issuer.key_identifier != own.key_identifier:
        return False
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found) == {_alternative(name) for name in names}


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file as a whole."""
    draft = path.with_name(f"{path.name}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
