"""The Exporter resource after validation: immutable, every default filled in, units in names.

Nothing here knows YAML, files or secrets' values. Equality is by value, so that a reload can tell
which exporters and which sinks really changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from relay.codec.otlp.metrics import Kind, Temporality
from relay.codec.signal_names import SignalName
from relay.runtime.errors import Fault
from relay.selector.records.selection import RecordSelection
from relay.selector.resources.label_selector import Selection

AuthenticationType = Literal["none", "bearerToken", "basicAuth", "apiKey"]
OtlpCompression = Literal["gzip", "zstd", "none"]
Compression = Literal[OtlpCompression, "snappy"]
RemoteWriteVersion = Literal["1.0", "2.0"]
BadRequest = Literal["partial", "rollback", "unreadable", "unknown"]
Overflow = Literal["dropOldest", "dropNewest", "block"]
Drain = Literal["oldestFirst", "freshFirst"]
ResourceKind = Literal["Exporter", "ExportPolicy"]
RefusalReason = Literal["InvalidAuthentication", "InvalidSources", "InvalidConfiguration"]
BACKOFF_S_MAX = 60.0
"""Longest delay between two attempts of one request, unless the first one is longer; s."""
Place = tuple[str | int, ...]
"""Steps to a field from the root of its resource, in the words of the document."""
_Value = TypeVar("_Value")
_SHARED_MAX: Final = 1_024
_NOTHING: Final[Mapping[str, Any]] = {}


@lru_cache(maxsize=_SHARED_MAX)
def _first_equal(value: _Value) -> _Value:
    """Return the first of equal values, for as long as it is among those asked for last."""
    return value


class ExporterPath(msgspec.Struct, frozen=True):
    """A file or directory of manifests, and the project that its resources belong to.

    ``project`` is "" without tenancy. The operator decides it; a resource cannot.
    """

    path: Path
    project: str = ""


class SecretRef(msgspec.Struct, frozen=True):
    """A secret of the exporter's own namespace; ``key`` is "" where the use has default keys.

    ``type`` is the type that a Secret in the manifests must have; "" for any.
    """

    name: str
    key: str = ""
    type: str = ""


class Authentication(msgspec.Struct, frozen=True):
    """Authentication of a sink; ``secret`` is set unless ``type`` is ``none``.

    ``bearerToken`` reads key ``token`` and ``apiKey`` key ``apiKey``, unless ``secret.key`` names
    another. ``basicAuth`` reads keys ``username`` and ``password``, or, if ``secret.key`` is set,
    that key as ``username:password``. ``header`` is the header that ``apiKey`` sets.
    """

    type: AuthenticationType = "none"
    secret: SecretRef | None = None
    header: str = ""


class ClientTls(msgspec.Struct, frozen=True):
    """TLS of one endpoint; certificates come from secrets, never from paths in an exporter.

    ``ca`` defaults to key ``ca.crt``; ``certificate`` is a ``kubernetes.io/tls`` secret with keys
    ``tls.crt`` and ``tls.key``.
    """

    ca: SecretRef | None = None
    certificate: SecretRef | None = None
    server_name: str = ""
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint of a sink: the settings that every sink kind has. Requests go to ``url``."""

    url: str
    authentication: Authentication = Authentication()
    headers: Mapping[str, str] = field(default_factory=dict)
    compression: Compression = "gzip"
    timeout_s: float = 10.0
    tls: ClientTls | None = None
    request_bytes_max: int | None = None
    """Upper bound of one request's encoded size before compression; None: only the protocol's."""
    concurrency: int = 1

    def __post_init__(self) -> None:
        """Share what other endpoints have, too."""
        object.__setattr__(self, "authentication", _first_equal(self.authentication))
        if not self.headers:
            object.__setattr__(self, "headers", _NOTHING)

    @property
    def references(self) -> Iterator[SecretRef]:
        """Yield the Secrets that it refers to."""
        tls = self.tls or ClientTls()
        for one in (self.authentication.secret, tls.ca, tls.certificate):
            if one is not None:
                yield one


NO_LABELS: Final[frozenset[str]] = frozenset()
"""Each empty set would take 232 bytes."""


@dataclass(frozen=True, slots=True)
class OtlpHttp(Endpoint):
    """One OTLP/HTTP endpoint. ``url`` is the base endpoint with the path of ``signal`` appended."""

    compression: OtlpCompression = "gzip"
    temporality: Temporality = "cumulative"
    promoted_labels: frozenset[str] = NO_LABELS
    """Labels that become attributes of the resource instead of the point."""
    unsupported_kinds: frozenset[Kind] = frozenset()
    """Kinds of OTLP metric that the endpoint does not accept, by its profile."""
    keeps_target_labels: bool = False
    """True if ``job`` and ``instance`` stay attributes of points, by the profile."""
    signal: SignalName = "metrics"
    signal_urls: tuple[tuple[SignalName, str], ...] = ()
    """Whole URLs of logs and traces, where any signal has one of its own."""
    signal_bytes_max: tuple[tuple[SignalName, int], ...] = ()
    """``request_bytes_max`` of signals that have another one, by the profile."""


@dataclass(frozen=True, slots=True)
class PrometheusRemoteWrite(Endpoint):
    """One Prometheus remote-write endpoint. Series arrive there as they came."""

    compression: Compression = "snappy"
    version: RemoteWriteVersion = "1.0"
    external_labels: tuple[tuple[str, str], ...] = ()
    """Names and values, by name, that are added to a series unless it has the label."""
    sends_metadata: bool = True
    """True if type, help and unit are sent where they are known."""
    bad_request: BadRequest = "unknown"
    """Meaning of the answer 400, by the profile: the good samples were stored (``partial``), none
    were (``rollback``), or the request could not be read (``unreadable``)."""


ENDPOINT_FIELDS: dict[type[Endpoint], str] = {
    OtlpHttp: "otlp_http",
    PrometheusRemoteWrite: "prometheusRemoteWrite",
}
"""The field of an Exporter's sink that holds an endpoint of this type."""


def kind_and_version(endpoint: Endpoint) -> tuple[str, str]:
    """Return the field that an endpoint stands in, and its version where its kind has some."""
    version = endpoint.version if isinstance(endpoint, PrometheusRemoteWrite) else ""
    return ENDPOINT_FIELDS[type(endpoint)], version


class Batch(msgspec.Struct, frozen=True):
    """Limits of a batch: sealed at ``points_max`` points or ``timeout_s`` after its first point."""

    enabled: bool = True
    timeout_s: float = 5.0
    points_max: int = 500


class RetrySettings(msgspec.Struct, frozen=True):
    """Limits of retries.

    ``attempts_max`` counts retries after the first attempt; None: no limit but the queue's.
    """

    enabled: bool = True
    attempts_max: int | None = None
    backoff_s: float = 2.0


class Queue(msgspec.Struct, frozen=True):
    """Limits of a sink's undelivered data, and the policy when they are reached.

    ``drain`` is the order in which a backlog on disk and fresh data are sent; with ``freshFirst``
    every fourth request is from the backlog, and points of a series no longer arrive in order.
    """

    bytes_max: int = 64 * 1024 * 1024
    age_max_s: float = 24 * 3600.0
    overflow: Overflow = "dropOldest"
    drain: Drain = "oldestFirst"


@dataclass(frozen=True, slots=True)
class Source:
    """A selection of series to export.

    ``query`` is the author's metricsql, ``selector`` its parsed form or that of the author's
    resource selectors.
    """

    name: str
    query: str
    selector: Selection

    def __post_init__(self) -> None:
        """Share its name with others'."""
        object.__setattr__(self, "name", _first_equal(self.name))


@dataclass(frozen=True, slots=True)
class RecordSource:
    """A selection of log records or spans to export; ``query`` is the author's selector."""

    name: str
    signal: SignalName
    query: str
    selection: RecordSelection


@dataclass(frozen=True, slots=True)
class Sink:
    """A destination; ``sources`` are names of this exporter's sources, of any signal.

    They are empty only if the resource names no source that the relay can export. ``paused``:
    nothing is sent, and the queue is kept within its limits. ``places`` are those of fields that an
    ExportPolicy may write in several ways, by the Exporter's word.
    """

    name: str
    sources: tuple[str, ...]
    endpoint: OtlpHttp | PrometheusRemoteWrite
    batch: Batch = Batch()
    retry: RetrySettings = RetrySettings()
    queue: Queue = Queue()
    paused: bool = False
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Share what other sinks have, too: there are thousands, and most are alike."""
        for name in ("name", "sources", "batch", "retry", "queue"):
            object.__setattr__(self, name, _first_equal(getattr(self, name)))
        if not self.places:
            object.__setattr__(self, "places", _NOTHING)


class RefusedSink(msgspec.Struct, frozen=True):
    """A sink of an ExportPolicy that has faults of its own; the other sinks run without it.

    ``message`` names the fields in the words of the document.
    """

    name: str
    reason: RefusalReason
    message: str


@dataclass(frozen=True, slots=True)
class Exporter:
    """One valid resource of kind Exporter or ExportPolicy.

    ``project`` is given by the operator's settings, never by the resource; "" without tenancy.
    ``sources`` are those of metrics, ``record_sources`` those of logs and traces.
    ``warnings`` are faults that do not prevent running. ``origin`` is file and document. ``uid``
    distinguishes an object from a later one of the same name; "" if it has none. ``created_at`` is
    in seconds since the epoch, None if unknown. ``refused`` are the sinks that an ExportPolicy has
    besides ``sinks``, ``not_carried`` the names of its sources of logs or traces that no sink
    sends, each with the signal. ``generation`` is Kubernetes' count of versions of the
    specification, 0 where there is none. ``control_plane`` is the source and the name of the
    control plane whose object it is, such as ``kubernetes acme`` or ``api``; "" for a manifest's.
    """

    project: str
    namespace: str
    name: str
    sources: tuple[Source, ...]
    sinks: tuple[Sink, ...]
    record_sources: tuple[RecordSource, ...] = ()
    uid: str = ""
    warnings: tuple[Fault, ...] = field(default=(), compare=False)
    origin: str = field(default="", compare=False)
    file: str = field(default="", compare=False)
    kind: ResourceKind = "Exporter"
    created_at: float | None = field(default=None, compare=False)
    refused: tuple[RefusedSink, ...] = field(default=(), compare=False)
    not_carried: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    generation: int = field(default=0, compare=False)
    control_plane: str = field(default="", compare=False)
    id: str = field(init=False, repr=False, compare=False)
    """The label in metrics, the name in logs and of queues; see :func:`id_of`."""

    def __post_init__(self) -> None:
        """Put the id together once: each change compares all exporters by it."""
        own = id_of(self.kind, self.project, self.namespace, self.name)
        object.__setattr__(self, "id", own)


def id_of(kind: str, project: str, namespace: str, name: str) -> str:
    """Return ``namespace/name``, preceded by ``project/`` under tenancy.

    An ExportPolicy's is ``namespace/ExportPolicy/name``: no project, namespace or name has upper
    case, so no Exporter has the same.
    """
    own_kind = "" if kind == "Exporter" else kind
    return "/".join(part for part in (project, namespace, own_kind, name) if part)


def names_of(own: str) -> tuple[str, str, str, str]:
    """Return kind, project, namespace and name of an id that :func:`id_of` has made."""
    *before, name = own.split("/")
    kind = before.pop() if before[-1] == "ExportPolicy" else "Exporter"
    namespace = before.pop()
    return kind, "".join(before), namespace, name
