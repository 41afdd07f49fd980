"""Determines the type of a metric from metadata, sibling series or its name.

Remote write 1.0 sends metadata apart from samples and by *family* (``http_requests``), while series
carry the name of one of the family's members (``http_requests_total``). Rules, first match wins:

1. What the series itself declares (remote write 2.0, ``__type__``); see :func:`declared_typing`.
2. Metadata of the name itself, then of the family that is left when a member suffix is taken off,
   if a family of that type has such a member (a gauge ``foo`` says nothing about ``foo_total``).
   What the project of the series said, then what the platform said.
3. Siblings, where the settings allow inference: beside a ``_bucket`` with a ``le`` or ``vmrange``
   label, ``_bucket``, ``_count`` and ``_sum`` are a histogram's; beside a ``quantile``, ``_count``
   and ``_sum`` count up. A summary is never inferred: a ``quantile`` label alone does not say that
   there is a count.
4. The name, where the settings allow inference: ``_total`` counts up. Of a name with a colon, which
   a recording rule or an aggregation made, nothing else is believed to count up.
5. Gauge.

Mapping to OTLP: reference "Prometheus and OpenMetrics Compatibility", section B of our digest.
Every name has an identity as number points, and the members of histograms and summaries one of
their family besides: which of them is used depends on whether an exporter wants the whole family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from relay.codec.otlp.metrics import Kind, MetricIdentity
from relay.pipeline.metrics.translate.target_info import TARGET_INFO

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

MEMBERS: dict[int, dict[str, bool]] = {
    COUNTER: {"_total": True, "_created": False},
    HISTOGRAM: {"_bucket": True, "_count": True, "_sum": True, "_created": False},
    SUMMARY: {"_count": True, "_sum": True, "_created": False},
    GAUGE_HISTOGRAM: {"_bucket": False, "_gcount": False, "_gsum": False, "_created": False},
    INFO: {"_info": False},
}
"""Suffixes of components by family type, and whether the component is monotonic."""

Part = Literal["", "bucket", "count", "sum", "quantile"]
"""Part of a histogram or summary that a series is; "" if it is none."""

_PARTS: dict[int, dict[str, Part]] = {
    HISTOGRAM: {"_bucket": "bucket", "_count": "count", "_sum": "sum"},
    SUMMARY: {"": "quantile", "_count": "count", "_sum": "sum"},
}

_ASSEMBLED: dict[int, Kind] = {HISTOGRAM: "histogram", SUMMARY: "summary"}

_MEMBER_UNITS = {"_bucket": "", "_count": "", "_gcount": "", "_created": "seconds"}
"""Units of components that differ from their family's: counts and times."""

SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_info", "_gcount", "_gsum")
"""Those of members of any family."""

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
    """Metadata of one metric family; ``type`` is one of this module's constants."""

    type: int
    help: str = ""
    unit: str = ""


NOTHING_SAID: Final = FamilyMetadata(UNKNOWN)

Evidence: TypeAlias = Literal["declared", "metadata", "siblings", "name"]
"""Sources of a type, the best first."""


class Typing:
    """Type of a name: ``identity`` as number points, ``family`` if it is a component of one.

    * ``refused`` is why OTLP cannot express it in any form, "" if it can. ``is_plain``: it has
      number points and no family. Nothing changes these.
    * Typings that differ in their evidence only are equal: points do not differ.
    * ``passed`` is the :attr:`Passes.number` at which its name needed no wait; 0: at none.
    """

    __slots__ = ("evidence", "family", "identity", "is_plain", "part", "passed", "refused")

    def __init__(
        self,
        identity: MetricIdentity,
        family: MetricIdentity | None = None,
        part: Part = "",
        refused: str = "",
        evidence: Evidence = "name",
    ) -> None:
        self.identity = identity
        self.family = family
        self.part: Part = part
        self.refused = refused
        self.evidence: Evidence = evidence
        self.is_plain = family is None and not refused and identity.name != TARGET_INFO
        self.passed = 0

    @property
    def is_unsure(self) -> bool:
        """Return True if only the name supports the type: metadata or siblings may still come."""
        return self.evidence == "name"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Typing):
            return NotImplemented
        return (
            self.identity == other.identity
            and self.family == other.family
            and self.part == other.part
            and self.refused == other.refused
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Typing {self.identity!r} by {self.evidence}>"


class Passes:
    """Version of what is known of families that wait.

    A typing that passed at another version is asked again.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 1

    def end(self) -> None:
        """Let no name pass by what was known before."""
        self.number += 1


class MetricName:
    """A metric's name, one object for all its series, and what is told by the name alone.

    ``describes``: it is ``target_info``; ``is_info``: that of an info series of the inventory.
    """

    __slots__ = ("describes", "is_bucket", "is_info", "text")

    def __init__(self, text: str, *, is_info: bool) -> None:
        self.text = text
        self.is_info = is_info
        self.is_bucket = text.endswith("_bucket")
        self.describes = text == TARGET_INFO

    def __repr__(self) -> str:
        return f"<MetricName {self.text!r}>"


MetadataOf: TypeAlias = "Callable[[str], FamilyMetadata | None]"
"""Lookup of a family's metadata by its name."""

SiblingsOf: TypeAlias = Callable[[str], Part]
"""Lookup of the kind of components seen in a family: "bucket", "quantile" or ""."""


def family_of(name: str, type_: int) -> str:
    """Return the family of a series that declares its own type, as in remote write 2.0.

    Metadata that comes by family may or may not end a counter's family in ``_total``; a name that
    is learned unchanged is found first.
    """
    for suffix in MEMBERS.get(type_, ()):
        if suffix not in ("_total", "_info") and name.endswith(suffix) and name != suffix:
            return name[: -len(suffix)]
    return name


def root_of(name: str) -> str:
    """Return the common root of the names of one family, whatever its type."""
    for suffix in SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return name[: -len(suffix)]
    return name


def sibling_family(name: str, part: Part) -> str:
    """Return the family that a series with this bound label belongs to; "" for none."""
    if part == "quantile":
        return name
    family = name.removesuffix("_bucket")
    return family if family != name else ""


def type_of(
    name: str, said: Sequence[MetadataOf], siblings_of: SiblingsOf, *, infer: bool = True
) -> Typing:
    """Return the type of a series that declares nothing itself, and its evidence.

    ``said`` are the metadata lookups, in order of precedence.
    """
    for metadata_of in said:
        stated = _stated(name, metadata_of)
        if stated is not None:
            return stated
    if infer:
        beside = _beside_siblings(name, said[0], siblings_of)
        if beside is not None:
            return beside
    untyped = said[0](name)
    if untyped is not None:
        return _typing(name, "", untyped)
    if infer and name.endswith("_total"):
        return Typing(MetricIdentity(name, "sum", monotonic=True))
    return Typing(MetricIdentity(name, "gauge"))


def declared_typing(name: str, declared: FamilyMetadata) -> Typing:
    """Return the typing of a series that declares its type."""
    suffix = name[len(family_of(name, declared.type)) :]
    typing = _typing(name, suffix, declared)
    return Typing(typing.identity, typing.family, typing.part, typing.refused, "declared")


def native_identity(name: str, kind: Kind, metadata: FamilyMetadata) -> MetricIdentity:
    """Return the identity of native histograms in a series of this name.

    ``kind`` is one of the two histogram kinds.
    """
    return MetricIdentity(
        name,
        kind,
        unit=_UCUM.get(metadata.unit, metadata.unit),
        description=metadata.help,
        prometheus_type=_TYPE_NAMES[HISTOGRAM],
    )


def type_name(type_: int) -> str:
    """Return the OpenMetrics name of a type."""
    return _TYPE_NAMES[type_] if 0 <= type_ < len(_TYPE_NAMES) else _TYPE_NAMES[UNKNOWN]


def _stated(name: str, metadata_of: MetadataOf) -> Typing | None:
    """Return the typing by metadata of the name itself, or of a family with such a component."""
    metadata = metadata_of(name)
    if metadata is not None and metadata.type != UNKNOWN:
        return _typing(name, "", metadata)
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            metadata = metadata_of(name[: -len(suffix)])
            if metadata is not None and suffix in MEMBERS.get(metadata.type, {}):
                return _typing(name, suffix, metadata)
    return None


def _beside_siblings(name: str, metadata_of: MetadataOf, siblings_of: SiblingsOf) -> Typing | None:
    """Return the typing by the components seen of a family without a known type."""
    for suffix, counts_up in MEMBERS[HISTOGRAM].items():
        if not name.endswith(suffix):
            continue
        family = name[: -len(suffix)]
        siblings = siblings_of(family)
        if not siblings or (siblings == "quantile" and suffix == "_bucket"):
            return None
        metadata = metadata_of(family) or NOTHING_SAID
        if metadata.type != UNKNOWN:
            return None
        typing = _typing(name, suffix, replace(metadata, type=HISTOGRAM))
        kind: Kind = "sum" if counts_up and ":" not in name else "gauge"
        identity = replace(typing.identity, kind=kind, monotonic=kind == "sum", prometheus_type="")
        if siblings == "quantile" or typing.family is None:
            return Typing(identity, evidence="siblings")
        whole = replace(typing.family, prometheus_type="")
        return Typing(identity, whole, typing.part, evidence="siblings")
    return None


def _typing(name: str, suffix: str, metadata: FamilyMetadata) -> Typing:
    """Return the typing of a family's component; ``suffix`` is "" for the family's own name."""
    kind_name = _TYPE_NAMES[metadata.type]
    monotonic = MEMBERS.get(metadata.type, {}).get(suffix, False)
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
        prometheus_type=kind_name,
    )
    # An unknown type is no evidence.
    evidence: Evidence = "metadata" if metadata.type != UNKNOWN else "name"
    refused = ""
    if metadata.type == GAUGE_HISTOGRAM and suffix in MEMBERS[GAUGE_HISTOGRAM]:
        refused = "" if suffix == "_created" else "gauge_histogram"
    part = _PARTS.get(metadata.type, {}).get(suffix, "")
    if not part:
        return Typing(identity, refused=refused, evidence=evidence)
    family = MetricIdentity(
        name.removesuffix(suffix),
        _ASSEMBLED[metadata.type],
        unit=_UCUM.get(metadata.unit, metadata.unit),
        description=metadata.help,
        prometheus_type=kind_name,
    )
    return Typing(identity, family, part, evidence=evidence)
