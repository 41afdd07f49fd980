"""The table of sink kinds. A new kind is one entry; see :mod:`relay.sink.interface`. Pure."""

from __future__ import annotations

from relay.config.exporter.types import Compression, Endpoint, OtlpHttp
from relay.sink.interface import SinkKind
from relay.sink.otlp_http import OTLP_HTTP

KINDS: dict[type[Endpoint], SinkKind] = {OtlpHttp: OTLP_HTTP}
"""By the type of the endpoint's configuration."""


def kind_of(endpoint: Endpoint) -> SinkKind:
    """Return the kind of sink that serves an endpoint."""
    return KINDS[type(endpoint)]


def coding_number(kind: str, compression: Compression) -> int:
    """Return the number by which a record on disk names a body's kind and compression."""
    return next(one.stored_codings[compression] for one in KINDS.values() if one.name == kind)


def coding_of(number: int) -> tuple[str, Compression] | None:
    """Return the kind and compression that a record names; None for a number of no kind."""
    for kind in KINDS.values():
        for compression, own in kind.stored_codings.items():
            if own == number:
                return kind.name, compression
    return None
