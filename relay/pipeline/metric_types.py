"""What kind of metric a name stands for: learned from metadata, inferred from the name where
unknown.

Remote write 1.0 sends metadata apart from samples and by *family* (``http_requests``), while series
carry the name of one of the family's members (``http_requests_total``). Rules, first match wins:

1. Metadata of the name itself.
2. Metadata of the family that is left when a member suffix is taken off, if a family of that type
   has such a member (a gauge ``foo`` says nothing about ``foo_total``).
3. Inference by suffix, where the settings allow it: ``_total``, ``_bucket``, ``_sum``, ``_count``
   count up.
4. Gauge.

Mapping to OTLP: reference "Prometheus and OpenMetrics Compatibility", sections B of our digest.
Histograms and summaries are, here, the number series that they are on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.wire.otlp import MetricIdentity

UNKNOWN, COUNTER, GAUGE, HISTOGRAM, GAUGE_HISTOGRAM, SUMMARY, INFO, STATE_SET = range(8)
"""prometheus.MetricMetadata.MetricType, the same numbers in both versions of remote write."""

_TYPE_NAMES = (
    "unknown",
    "counter",
    "gauge",
    "histogram",
    "gaugehistogram",
    "summary",
    "info",
    "stateset",
)

_MEMBERS: dict[int, dict[str, bool]] = {
    COUNTER: {"_total": True, "_created": False},
    HISTOGRAM: {"_bucket": True, "_count": True, "_sum": True, "_created": False},
    SUMMARY: {"_count": True, "_sum": True, "_created": False},
    GAUGE_HISTOGRAM: {"_bucket": False, "_gcount": False, "_gsum": False, "_created": False},
    INFO: {"_info": False},
}
"""Suffixes of a family's members by type, and whether that member only ever counts up."""

_SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_info", "_gcount", "_gsum")

_INFERRED_COUNTING = ("_total", "_bucket", "_sum", "_count")

_UCUM = {
    "days": "d",
    "hours": "h",
    "minutes": "min",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
    "bytes": "By",
    "kibibytes": "KiBy",
    "mebibytes": "MiBy",
    "gibibytes": "GiBy",
    "tebibytes": "TiBy",
    "kilobytes": "kBy",
    "megabytes": "MBy",
    "gigabytes": "GBy",
    "terabytes": "TBy",
    "meters": "m",
    "volts": "V",
    "amperes": "A",
    "joules": "J",
    "watts": "W",
    "grams": "g",
    "celsius": "Cel",
    "hertz": "Hz",
    "percent": "%",
}
"""Units of Prometheus' names in UCUM; any other unit passes as given."""


FAMILY_CHARS_MAX = 1024
UNIT_CHARS_MAX = 64
HELP_CHARS_MAX = 4096
"""A longer help is cut, a longer name or unit is not believed: they are kept for every family."""


@dataclass(frozen=True, slots=True)
class FamilyMetadata:
    """What a sender said about one metric family. ``type`` is one of this module's constants."""

    type: int
    help: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class MetricTypesStatistics:
    """``families`` known; ``refused`` ones that found no room; ``retyped`` names after first
    use."""

    families: int
    refused: int
    retyped: int


class MetricTypes:
    """Remembers metadata per family, bounded by ``families_max``, and types names by it."""

    def __init__(self, *, families_max: int, infer: bool = True) -> None:
        self._families: dict[str, FamilyMetadata] = {}
        self._families_max = families_max
        self._infer = infer
        self._identities: dict[str, MetricIdentity] = {}
        self._refused = 0
        self._retyped = 0
        self._forgot = False
        self.version = 0
        """Moves with everything that is learned."""

    def learn(self, family: str, metadata: FamilyMetadata) -> bool:
        """Take in what a sender says of a family; return whether a name in use has a new identity.

        Targets of different versions may describe one family in different words: help and unit are
        only filled in once, so that a metric does not change its identity back and forth. A type
        that is unknown, or that we do not know, takes nothing back.
        """
        if len(family) > FAMILY_CHARS_MAX or len(metadata.unit) > UNIT_CHARS_MAX:
            self._refused += 1
            return False
        known = self._families.get(family)
        if known is None:
            if len(self._families) >= self._families_max:
                self._refused += 1
                return False
            known = FamilyMetadata(UNKNOWN)
        kind = metadata.type if COUNTER <= metadata.type <= STATE_SET else known.type
        learned = FamilyMetadata(
            kind, known.help or metadata.help[:HELP_CHARS_MAX], known.unit or metadata.unit
        )
        if self._families.get(family) == learned:
            return False
        self._families[family] = learned
        self.version += 1
        changed = 0
        for suffix in ("", *_SUFFIXES):
            name = family + suffix
            before = self._identities.get(name)
            if before is not None and self._describe(name) != before:
                del self._identities[name]
                changed += 1
        self._retyped += changed
        return bool(changed) or self._forgot

    def families(self) -> dict[str, FamilyMetadata]:
        """Everything that was learned, by family; a copy."""
        return dict(self._families)

    def identity(self, name: str) -> MetricIdentity:
        """What a series of this name is in OTLP. Remembered until :meth:`learn` says it changed."""
        identity = self._identities.get(name)
        if identity is None:
            identity = self._describe(name)
            if len(self._identities) >= 4 * self._families_max:
                self._identities.clear()
                self._forgot = True  # from now on, learn() cannot tell which names are in use
            self._identities[name] = identity
        return identity

    def statistics(self) -> MetricTypesStatistics:
        """A snapshot."""
        return MetricTypesStatistics(len(self._families), self._refused, self._retyped)

    def _describe(self, name: str) -> MetricIdentity:
        metadata = self._families.get(name)
        if metadata is not None:
            return _identity(name, metadata, monotonic=metadata.type == COUNTER)
        for suffix in _SUFFIXES:
            if name.endswith(suffix):
                metadata = self._families.get(name[: -len(suffix)])
                if metadata is not None:
                    monotonic = _MEMBERS.get(metadata.type, {}).get(suffix)
                    if monotonic is not None:
                        return _identity(name, metadata, monotonic=monotonic)
        if self._infer and name.endswith(_INFERRED_COUNTING):
            return MetricIdentity(name, "sum", monotonic=True)
        return MetricIdentity(name, "gauge")

    def __repr__(self) -> str:
        return f"<MetricTypes {len(self._families)} families>"


def _identity(name: str, metadata: FamilyMetadata, *, monotonic: bool) -> MetricIdentity:
    # Info and state sets are non-monotonic sums, by the compatibility specification.
    is_sum = monotonic or metadata.type in (INFO, STATE_SET)
    type_name = _TYPE_NAMES[metadata.type]
    return MetricIdentity(
        name,
        "sum" if is_sum else "gauge",
        monotonic=monotonic,
        unit=_UCUM.get(metadata.unit, metadata.unit),
        description=metadata.help,
        prometheus_type=type_name,
    )
