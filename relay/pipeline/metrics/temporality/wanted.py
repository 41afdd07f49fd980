"""Chooses the identity of a metric in the temporality that a sink wants."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from relay.codec.otlp.metrics import MetricIdentity
from relay.pipeline.routing.match_set import OutputOptions

_OF_DELTAS_MAX: Final = 1_024
"""Size of the cache from cumulative to delta identities."""


def as_wanted(identity: MetricIdentity, options: OutputOptions) -> MetricIdentity:
    """Return the identity in the temporality of a sink.

    Backends accept no deltas of non-monotonic sums (New Relic refuses them, Datadog and Dynatrace
    make gauges of cumulative ones): such a sink gets gauges.
    """
    if options.temporality == "cumulative" or identity.kind in ("gauge", "summary"):
        return identity
    return _of_deltas(identity)


@lru_cache(maxsize=_OF_DELTAS_MAX)
def _of_deltas(identity: MetricIdentity) -> MetricIdentity:
    if identity.kind == "sum" and not identity.monotonic:
        return replace(identity, kind="gauge")
    return replace(identity, temporality="delta")
