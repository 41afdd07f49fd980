"""What kind of metric a name stands for: learned from metadata, inferred from the name where
unknown.

Remote write 1.0 sends metadata apart from samples and by *family* (``http_requests``), while series
carry the name of one of the family's members (``http_requests_total``). Rules, first match wins:

1. Metadata of the name itself.
2. Metadata of the family that is left when a member suffix is taken off, if a family of that type
   has such a member (a gauge ``foo`` says nothing about ``foo_total``).
3. Inference, where the settings allow it: a ``_bucket`` with a ``le`` or ``vmrange`` label is of a
   histogram (:meth:`MetricTypes.infer_histogram`), and with it ``_count`` and ``_sum``; otherwise
   ``_total``, ``_bucket``, ``_sum`` and ``_count`` count up. A summary is never inferred: a
   ``quantile`` label alone does not say that there is a count.
4. Gauge.

Mapping to OTLP: reference "Prometheus and OpenMetrics Compatibility", section B of our digest.
Every name has an identity as number points, and the members of histograms and summaries one of
their family besides: which of them is used depends on whether an exporter wants the whole family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from relay.wire.otlp import Kind, MetricIdentity

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

TYPE_NUMBERS = {name: number for number, name in enumerate(_TYPE_NAMES)}

_MEMBERS: dict[int, dict[str, bool]] = {
    COUNTER: {"_total": True, "_created": False},
    HISTOGRAM: {"_bucket": True, "_count": True, "_sum": True, "_created": False},
    SUMMARY: {"_count": True, "_sum": True, "_created": False},
    GAUGE_HISTOGRAM: {"_bucket": False, "_gcount": False, "_gsum": False, "_created": False},
    INFO: {"_info": False},
}
"""Suffixes of a family's members by type, and whether that member only ever counts up."""

Part = Literal["", "bucket", "count", "sum", "quantile"]
"""What a series is of its histogram or summary; "" where it is of none."""

_PARTS: dict[int, dict[str, Part]] = {
    HISTOGRAM: {"_bucket": "bucket", "_count": "count", "_sum": "sum"},
    SUMMARY: {"": "quantile", "_count": "count", "_sum": "sum"},
}

_ASSEMBLED: dict[int, Kind] = {HISTOGRAM: "histogram", SUMMARY: "summary"}

_MEMBER_UNITS = {"_bucket": "", "_count": "", "_gcount": "", "_created": "seconds"}
"""Members that are not of their family's unit: they count observations, or say when."""

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

CONFIRMED_S = 600.0
"""How long a type stands against contradiction: ten times the interval of senders' metadata."""


@dataclass(frozen=True, slots=True)
class FamilyMetadata:
    """What a sender said about one metric family. ``type`` is one of this module's constants."""

    type: int
    help: str = ""
    unit: str = ""


_NOTHING = FamilyMetadata(UNKNOWN)


@dataclass(frozen=True, slots=True)
class Typing:
    """What a name stands for: ``identity`` as number points, ``family`` where it is part of one.

    ``refused`` is why OTLP cannot express it in any form, "" for what it can.
    """

    identity: MetricIdentity
    family: MetricIdentity | None = None
    part: Part = ""
    refused: str = ""


def family_of(name: str, type_: int) -> str:
    """The family of a series that says itself of which type it is, as remote write 2.0 has it.

    Where metadata comes by family, a counter's family may or may not end in ``_total``; a name that
    is learned as it stands is found first.
    """
    for suffix in _MEMBERS.get(type_, ()):
        if suffix not in ("_total", "_info") and name.endswith(suffix) and name != suffix:
            return name[: -len(suffix)]
    return name


def root_of(name: str) -> str:
    """What the names of one family have in common, whichever type it is of."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return name[: -len(suffix)]
    return name


@dataclass(frozen=True, slots=True)
class MetricTypesStatistics:
    """``families`` known; ``refused`` ones that found no room; ``retyped`` names after first use;
    ``contradictions`` of a type that somebody else confirms."""

    families: int
    refused: int
    retyped: int
    contradictions: int


class MetricTypes:
    """Remembers metadata per family, bounded by ``families_max``, and types names by it."""

    def __init__(self, *, families_max: int, infer: bool = True) -> None:
        self.tick = 0.0
        """The monotonic clock, in s, as of the metadata that is learned now."""
        self._families: dict[str, FamilyMetadata] = {}
        self._confirmed: dict[str, float] = {}
        self._families_max = families_max
        self._infer = infer
        self._typings: dict[str, Typing] = {}
        self._inferred: set[str] = set()
        self._refused = 0
        self._contradictions = 0
        self._retyped = 0
        self._forgot = False
        self.version = 0
        """Moves with everything that is learned."""

    def learn(self, family: str, metadata: FamilyMetadata) -> bool:
        """Take in what a sender says of a family; return whether a name in use has a new identity.

        Targets of different versions may describe one family in different words: help and unit are
        only filled in once, so that a metric does not change its identity back and forth. For the
        same reason a type stays until nobody has confirmed it for :data:`CONFIRMED_S`. One that is
        unknown, or that we do not know, takes nothing back.
        """
        if len(family) > FAMILY_CHARS_MAX or len(metadata.unit) > UNIT_CHARS_MAX:
            self._refused += 1
            return False
        known = self._families.get(family)
        if known is None:
            if len(self._families) >= self._families_max:
                self._refused += 1
                return False
            known = _NOTHING
        kind = metadata.type if COUNTER <= metadata.type <= STATE_SET else known.type
        if kind != known.type != UNKNOWN and self.tick - self._confirmed[family] < CONFIRMED_S:
            self._contradictions += 1
            kind = known.type
        elif kind == metadata.type:
            self._confirmed[family] = self.tick
        learned = FamilyMetadata(
            kind, known.help or metadata.help[:HELP_CHARS_MAX], known.unit or metadata.unit
        )
        if self._families.get(family) == learned:
            return False
        self._families[family] = learned
        self.version += 1
        return self._changed(family)

    def infer_histogram(self, name: str) -> bool:
        """Take a ``_bucket`` series with a bound for a histogram's, where nothing else is known.

        Returns whether a name in use has a new identity, as :meth:`learn` does.
        """
        family = name.removesuffix("_bucket")
        if (
            not self._infer
            or family in (name, "")
            or family in self._inferred
            or self._families.get(name, _NOTHING).type != UNKNOWN
            or self._families.get(family, _NOTHING).type != UNKNOWN
            or len(self._inferred) >= self._families_max
        ):
            return False
        self._inferred.add(family)
        self.version += 1
        return self._changed(family)

    def typing(self, name: str) -> Typing:
        """What a series of this name is. Remembered until :meth:`learn` says it changed."""
        typing = self._typings.get(name)
        if typing is None:
            typing = self._describe(name)
            if len(self._typings) >= 4 * self._families_max:
                self._typings.clear()
                self._forgot = True  # from now on, learn() cannot tell which names are in use
            self._typings[name] = typing
        return typing

    def is_unsure(self, name: str) -> bool:
        """Whether no metadata tells what the name is, so that metadata may still change it."""
        if self._families.get(name, _NOTHING).type != UNKNOWN:
            return False
        for suffix in _SUFFIXES:
            if name.endswith(suffix):
                known = self._families.get(name[: -len(suffix)])
                if known is not None and suffix in _MEMBERS.get(known.type, {}):
                    return False
        return True

    def identity(self, name: str) -> MetricIdentity:
        """What a series of this name is as number points."""
        return self.typing(name).identity

    def families(self) -> dict[str, FamilyMetadata]:
        """Everything that was learned, by family; a copy."""
        return dict(self._families)

    def inferred(self) -> list[str]:
        """The families that were taken for histograms by their buckets."""
        return list(self._inferred)

    def histogram(self, name: str, kind: Kind) -> MetricIdentity:
        """What native histograms on a series of this name are; ``kind`` is one of the two."""
        metadata = self._families.get(name, _NOTHING)
        return MetricIdentity(
            name,
            kind,
            unit=_UCUM.get(metadata.unit, metadata.unit),
            description=metadata.help,
            prometheus_type=_TYPE_NAMES[HISTOGRAM],
        )

    def statistics(self) -> MetricTypesStatistics:
        """A snapshot."""
        return MetricTypesStatistics(
            len(self._families), self._refused, self._retyped, self._contradictions
        )

    def _changed(self, family: str) -> bool:
        changed = 0
        for suffix in ("", *_SUFFIXES):
            name = family + suffix
            before = self._typings.get(name)
            if before is not None and self._describe(name) != before:
                del self._typings[name]
                changed += 1
        self._retyped += changed
        return bool(changed) or self._forgot

    def _describe(self, name: str) -> Typing:
        metadata = self._families.get(name)
        member = self._describe_member(name)
        if metadata is not None and (member is None or metadata.type != UNKNOWN):
            return _typing(name, "", metadata)
        if member is not None:
            return member
        if self._infer and name.endswith(_INFERRED_COUNTING):
            return Typing(MetricIdentity(name, "sum", monotonic=True))
        return Typing(MetricIdentity(name, "gauge"))

    def _describe_member(self, name: str) -> Typing | None:
        """What the name is as a member of a family that has such a member."""
        for suffix in _SUFFIXES:
            if not name.endswith(suffix):
                continue
            family = name[: -len(suffix)]
            metadata = self._families.get(family)
            if family in self._inferred and (metadata is None or metadata.type == UNKNOWN):
                metadata = replace(metadata or _NOTHING, type=HISTOGRAM)
                return _typing(name, suffix, metadata, inferred=True)
            if metadata is not None and suffix in _MEMBERS.get(metadata.type, {}):
                return _typing(name, suffix, metadata)
        return None

    def __repr__(self) -> str:
        return f"<MetricTypes {len(self._families)} families>"


def _typing(name: str, suffix: str, metadata: FamilyMetadata, *, inferred: bool = False) -> Typing:
    """The typing of a family's member; ``suffix`` is "" for what has the family's own name."""
    type_name = "" if inferred else _TYPE_NAMES[metadata.type]
    monotonic = _MEMBERS.get(metadata.type, {}).get(suffix, False)
    if not suffix:
        monotonic = metadata.type == COUNTER
    # Info and state sets are non-monotonic sums, by the compatibility specification.
    is_sum = monotonic or metadata.type in (INFO, STATE_SET)
    unit = _MEMBER_UNITS.get(suffix, metadata.unit)
    identity = MetricIdentity(
        name,
        "sum" if is_sum else "gauge",
        monotonic=monotonic,
        unit=_UCUM.get(unit, unit),
        description=metadata.help,
        prometheus_type=type_name,
    )
    refused = ""
    if metadata.type == GAUGE_HISTOGRAM and suffix in _MEMBERS[GAUGE_HISTOGRAM]:
        refused = "" if suffix == "_created" else "gauge_histogram"
    part = _PARTS.get(metadata.type, {}).get(suffix, "")
    if not part:
        return Typing(identity, refused=refused)
    family = MetricIdentity(
        name.removesuffix(suffix),
        _ASSEMBLED[metadata.type],
        unit=_UCUM.get(metadata.unit, metadata.unit),
        description=metadata.help,
        prometheus_type=type_name,
    )
    return Typing(identity, family, part)
