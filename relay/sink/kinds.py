"""The table of sink kinds. A new kind is one entry; see :mod:`relay.sink.interface`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from relay.config.exporter.types import Compression, Endpoint, OtlpHttp, PrometheusRemoteWrite
from relay.sink.interface import Encoders, SinkKind
from relay.sink.otlp.records import OTLP_LOGS, OTLP_TRACES
from relay.sink.otlp_http import OTLP_HTTP
from relay.sink.remote_write.kinds import REMOTE_WRITE_1, REMOTE_WRITE_2

KINDS: dict[type[Endpoint], tuple[SinkKind, ...]] = {
    OtlpHttp: (OTLP_HTTP, OTLP_LOGS, OTLP_TRACES),
    PrometheusRemoteWrite: (REMOTE_WRITE_1, REMOTE_WRITE_2),
}
"""By the type of the endpoint's configuration."""

_encoders: dict[tuple[type[Endpoint], str], Encoders] = {}
"""By type of endpoint and name of kind: shared by the sinks of a kind."""


def kind_of(endpoint: Endpoint) -> SinkKind:
    """Return the kind of sink that serves an endpoint."""
    return next(kind for kind in KINDS[type(endpoint)] if kind.serves(endpoint))


def encoders_for(endpoint: Endpoint) -> Encoders:
    """Return the encoders of the bodies that an endpoint may be sent."""
    of, kind = type(endpoint), kind_of(endpoint)
    if (of, kind.name) not in _encoders:
        bodies = {one.name: one.encoder for one in KINDS[of]}
        _encoders[of, kind.name] = Encoders(kind.encoder, bodies)
    return _encoders[of, kind.name]


def all_kinds() -> Iterator[SinkKind]:
    """Yield every kind."""
    for kinds in KINDS.values():
        yield from kinds


def coding_number(kind: str, compression: Compression) -> int:
    """Return the number by which a record on disk names a body's kind and compression."""
    return next(one.stored_codings[compression] for one in all_kinds() if one.name == kind)


def coding_of(number: int) -> tuple[str, Compression] | None:
    """Return the kind and compression that a record names; None for a number of no kind."""
    for kind in all_kinds():
        for compression, own in kind.stored_codings.items():
            if own == number:
                return kind.name, compression
    return None
