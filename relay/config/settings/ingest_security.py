"""Settings of senders: authentication, limits and TLS of the listeners."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from relay.config.schema.checks import dns_subdomain_problem
from relay.config.schema.quantities import bytes_of, seconds_of
from relay.config.schema.validate import Reading
from relay.config.yaml.document import Where, read_bounded

SenderAuthenticationType = Literal["none", "bearer", "basic"]

_KIB, _MIB = 1 << 10, 1 << 20

CREDENTIAL_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class SenderAuthentication:
    """Authentication of a listener's clients: a bearer token, or user name and password.

    ``token`` and ``password`` are the settings' texts, or the content of the named file when it was
    read; not empty if the type needs them.
    """

    type: SenderAuthenticationType = "none"
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None


class ServerTls(msgspec.Struct, frozen=True):
    """TLS of a listener. With ``client_ca_file``, senders must present a certificate."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


class Ingest(msgspec.Struct, frozen=True):
    """Limits for senders; each protects memory, and each refusal is counted by its reason."""

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
    """Maximum time of points ahead of their arrival, s; later points are dropped."""
    read_timeout_s: float = 30.0
    """From a request's first byte to its last."""
    authentication: SenderAuthentication = msgspec.field(default_factory=SenderAuthentication)
    tls: ServerTls | None = None


class Admin(msgspec.Struct, frozen=True):
    """Access to the admin listener.

    ``hosts`` are allowed host names besides IP addresses and the machine's own names; ``*.`` stands
    for all names below a domain. ``tap``: live points of sinks may be shown.
    """

    hosts: tuple[str, ...] = ()
    authentication: SenderAuthentication = msgspec.field(default_factory=SenderAuthentication)
    tls: ServerTls | None = None
    tap: bool = False


def build_admin(reading: Reading, values: dict[str, Any], *, base: Path) -> Admin:
    """Return the section ``admin``; paths are relative to ``base``."""
    return Admin(
        hosts=tuple(host for host in values.get("hosts", ()) if host is not None),
        authentication=_authentication(reading, ("admin", "authentication"), values, base),
        tls=_tls(reading, ("admin", "tls"), values, base),
        tap=values.get("tap", False),
    )


def host_problem(text: str) -> str:
    """Return the fault of a host name of the admin listener, or ""."""
    problem = dns_subdomain_problem(text.lower().removeprefix("*."))
    return f"a host name {problem}; without port, such as relay.monitoring.svc" if problem else ""


def _authentication(
    reading: Reading, place: Where, parent: dict[str, Any], base: Path
) -> SenderAuthentication:
    values = parent.get("authentication", {})
    token, token_file = credential(reading, place, values, "token", base)
    password, password_file = credential(reading, place, values, "password", base)
    return SenderAuthentication(
        type=values.get("type", "none"),
        token=token,
        token_file=token_file,
        username=values.get("username", ""),
        password=password,
        password_file=password_file,
    )


def credential(
    reading: Reading, place: Where, values: dict[str, Any], key: str, base: Path
) -> tuple[str, Path | None]:
    """Return a secret text: the value itself, or the content of the file in ``<key>File``."""
    text = str(values.get(key, ""))
    name = values.get(f"{key}File")
    if name is None:
        return text, None
    path = base / name
    problem = ""
    try:
        text = read_bounded(path, bytes_max=CREDENTIAL_BYTES_MAX).decode().rstrip("\r\n")
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or type(error).__name__}"
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8 text"
    else:
        problem = "" if text else f"{path} is empty"
    if problem:
        reading.fault(*place, f"{key}File", message=problem)
    return text, path


def _tls(reading: Reading, place: Where, parent: dict[str, Any], base: Path) -> ServerTls | None:
    values = parent.get("tls")
    if values is None:
        return None
    paths: dict[str, Path | None] = {}
    for key in ("certFile", "keyFile", "clientCaFile"):
        path = paths[key] = base / values[key] if key in values else None
        # It has to be there when the relay starts.
        if path is not None and not os.path.isfile(path):
            reading.fault(*place, key, message=f"no such file: {path}")
    cert_file, key_file = paths["certFile"], paths["keyFile"]
    if cert_file is None or key_file is None:
        return None
    return ServerTls(cert_file, key_file, paths["clientCaFile"])


def build_ingest(reading: Reading, values: dict[str, Any], *, base: Path) -> Ingest:
    """Return the section ``ingest``; paths are relative to ``base``."""
    default = Ingest()
    return Ingest(
        body_bytes_max=bytes_of(values, "maxBodyBytes", default.body_bytes_max),
        decoded_bytes_max=bytes_of(values, "maxDecodedBytes", default.decoded_bytes_max),
        concurrent_requests_max=values.get(
            "maxConcurrentRequests", default.concurrent_requests_max
        ),
        labels_max=values.get("maxLabels", default.labels_max),
        series_bytes_max=bytes_of(values, "maxSeriesBytes", default.series_bytes_max),
        series_max=values.get("maxSeries", default.series_max),
        metadata_max=values.get("maxMetadata", default.metadata_max),
        histograms_max=values.get("maxHistograms", default.histograms_max),
        series_idle_timeout_s=seconds_of(
            values, "seriesIdleTimeout", default.series_idle_timeout_s
        ),
        future_max_s=seconds_of(values, "maxFuture", default.future_max_s),
        read_timeout_s=seconds_of(values, "readTimeout", default.read_timeout_s),
        authentication=_authentication(reading, ("ingest", "authentication"), values, base),
        tls=_tls(reading, ("ingest", "tls"), values, base),
    )
