"""What the settings say of senders: who may deliver, and how their connections are protected."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from relay.config.exporter.string_formats import dns_subdomain_problem
from relay.config.yaml.document import read_bounded
from relay.config.yaml.fields import Section

SenderAuthenticationType = Literal["none", "bearer", "basic"]

HOSTS_MAX = 100
_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30

CREDENTIAL_BYTES_MAX = 64 * 1024

_SENDER_AUTHENTICATION_TYPES: tuple[SenderAuthenticationType, ...] = get_args(
    SenderAuthenticationType
)


@dataclass(frozen=True, slots=True)
class SenderAuthentication:
    """How clients of a listener prove who they are: a bearer token, or a user name and password.

    ``token`` and ``password`` are what the settings say or what the named file held when they were
    read; where the type needs one, it is not empty.
    """

    type: SenderAuthenticationType = "none"
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS of a listener. With ``client_ca_file``, senders must present a certificate."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Ingest:
    """What senders may do. Each limit protects memory; each refusal is counted by its reason."""

    body_bytes_max: int = 32 * _MIB
    """One request's body as it comes over the wire."""
    decoded_bytes_max: int = 32 * _MIB
    """The same body decompressed."""
    concurrent_requests_max: int = 64
    labels_max: int = 128
    """Labels of one series."""
    series_bytes_max: int = 16 * _KIB
    """All labels of one series, encoded."""
    series_max: int = 2_000_000
    metadata_max: int = 1_000_000
    """Metric families whose type is remembered."""
    histograms_max: int = 200_000
    """Classic histograms and summaries that are put together at the same time."""
    series_idle_timeout_s: float = 3600.0
    """A series that was not seen for so long is forgotten."""
    future_max_s: float = 600.0
    """How far ahead of their arrival points may be; later ones are dropped."""
    read_timeout_s: float = 30.0
    """From a request's first byte to its last."""
    authentication: SenderAuthentication = field(default_factory=SenderAuthentication)
    tls: ServerTls | None = None


@dataclass(frozen=True, slots=True)
class Admin:
    """Who may read the admin listener. ``hosts`` are names by which it is asked besides IP
    addresses and the machine's own names; ``*.`` begins one that stands for all below it."""

    hosts: tuple[str, ...] = ()
    authentication: SenderAuthentication = field(default_factory=SenderAuthentication)
    tls: ServerTls | None = None


def read_admin(root: Section, *, base: Path) -> Admin:
    """The section ``admin``; paths are relative to ``base``."""
    with root.section("admin") as section:
        return Admin(
            hosts=section.texts("hosts", count_max=HOSTS_MAX, check=_host_problem),
            authentication=read_authentication(section, base=base),
            tls=read_tls(section, base=base),
        )


def _host_problem(text: str) -> str:
    problem = dns_subdomain_problem(text.lower().removeprefix("*."))
    return f"a host name {problem}; without port, such as relay.monitoring.svc" if problem else ""


def read_authentication(ingest: Section, *, base: Path) -> SenderAuthentication:
    """The section ``authentication``; paths are relative to ``base``."""
    with ingest.section("authentication") as section:
        kind = section.choice("type", _SENDER_AUTHENTICATION_TYPES, default="none", required=True)
        username = section.text("username", required=kind == "basic")
        if ":" in username:  # RFC 7617 §2: it ends at the first colon
            section.fault("username", 'must not contain ":"')
        token, token_file = read_credential(section, base, "token")
        password, password_file = read_credential(section, base, "password")
        if section.says("type", kind):  # a misspelt type says nothing about the other fields
            _check_credentials(section, kind)
        return SenderAuthentication(
            type=kind,
            token=token,
            token_file=token_file,
            username=username,
            password=password,
            password_file=password_file,
        )


def read_credential(section: Section, base: Path, key: str) -> tuple[str, Path | None]:
    """A secret text: as it stands, or from the file that ``<key>File`` names."""
    text = section.text(key, hidden=True)
    path = _read_path(section, base, f"{key}File")
    if path is None:
        return text, None
    try:
        content = read_bounded(path, bytes_max=CREDENTIAL_BYTES_MAX)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        section.fault(f"{key}File", f"{path} cannot be read: {reason}")
    except UnicodeDecodeError:
        section.fault(f"{key}File", f"{path} is not UTF-8 text")
    else:
        if not text:
            section.fault(f"{key}File", f"{path} is empty")
    return text, path


def read_tls(ingest: Section, *, base: Path) -> ServerTls | None:
    """The section ``tls``; paths are relative to ``base``."""
    with ingest.section("tls") as section:
        cert_file = _read_file(section, base, "certFile", required=True)
        key_file = _read_file(section, base, "keyFile", required=True)
        client_ca_file = _read_file(section, base, "clientCaFile")
    if cert_file is None or key_file is None:
        return None
    return ServerTls(cert_file, key_file, client_ca_file)


def _read_path(section: Section, base: Path, key: str, *, required: bool = False) -> Path | None:
    text = section.text(key, required=required)
    return base / text if text else None


def _read_file(section: Section, base: Path, key: str, *, required: bool = False) -> Path | None:
    """A file that has to be there when the relay starts."""
    path = _read_path(section, base, key, required=required)
    if path is not None and not path.is_file():
        section.fault(key, f"no such file: {path}")
    return path


def _check_credentials(section: Section, kind: SenderAuthenticationType) -> None:
    """What the type needs is there exactly once, and what it has no use for is not."""
    wanted = {"none": "", "bearer": "token", "basic": "password"}[kind]
    for secret in ("token", "password"):
        count = section.has(secret) + section.has(f"{secret}File")
        if secret == wanted and count != 1:
            section.report.fault(
                section.where, f"type: {kind} needs one of {secret} and {secret}File"
            )
        elif secret != wanted and count:
            section.report.fault(
                section.where, f"{secret} and {secret}File have no meaning with type: {kind}"
            )
    if kind != "basic" and section.has("username"):
        section.fault("username", f"has no meaning with type: {kind}")


def read_ingest(root: Section, *, base: Path) -> Ingest:
    """The section ``ingest``; paths are relative to ``base``."""
    default = Ingest()
    with root.section("ingest") as section:
        return Ingest(
            body_bytes_max=section.size_bytes(
                "maxBodyBytes", default=default.body_bytes_max, minimum=_KIB, maximum=_GIB
            ),
            decoded_bytes_max=section.size_bytes(
                "maxDecodedBytes", default=default.decoded_bytes_max, minimum=_KIB, maximum=_GIB
            ),
            concurrent_requests_max=section.integer(
                "maxConcurrentRequests",
                default=default.concurrent_requests_max,
                minimum=1,
                maximum=10_000,
            ),
            labels_max=section.integer(
                "maxLabels", default=default.labels_max, minimum=1, maximum=10_000
            ),
            series_bytes_max=section.size_bytes(
                "maxSeriesBytes", default=default.series_bytes_max, minimum=256, maximum=_MIB
            ),
            series_max=section.integer(
                "maxSeries", default=default.series_max, minimum=1, maximum=100_000_000
            ),
            metadata_max=section.integer(
                "maxMetadata", default=default.metadata_max, minimum=1, maximum=10_000_000
            ),
            histograms_max=section.integer(
                "maxHistograms", default=default.histograms_max, minimum=2, maximum=10_000_000
            ),
            series_idle_timeout_s=section.duration_s(
                "seriesIdleTimeout",
                default=default.series_idle_timeout_s,
                minimum=60.0,
                maximum=30 * 24 * 3600.0,
            ),
            future_max_s=section.duration_s(
                "maxFuture",
                default=default.future_max_s,
                minimum=1.0,
                maximum=100 * 365 * 24 * 3600.0,
            ),
            read_timeout_s=section.duration_s(
                "readTimeout", default=default.read_timeout_s, minimum=1.0, maximum=3600.0
            ),
            authentication=read_authentication(section, base=base),
            tls=read_tls(section, base=base),
        )
