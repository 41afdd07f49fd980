"""What a remote-write request must become in OTLP, derived slowly and without the relay's own code.

The oracle of the pipeline: the rules are written down here a second time, straight from our digest
of the specifications (A2 "Content rules", B "Prometheus to OTLP", C "Fields", E "Test vectors"),
with the official protobuf classes on both sides. Nothing of ``relay.pipeline`` or ``relay.codec``
may be imported here.

:class:`SlowRelay` takes requests and says which points must come out;
:mod:`tests.kit.oracle.number_points` reads what came out, and compares the two.

One freedom is left to the relay: metadata that travels in the same request as samples of a series
that is known already may describe these samples or only those of the next request. Such a point has
two alternatives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tests.kit.oracle import slow_native
from tests.kit.oracle.number_points import (
    NO_RECORDED_VALUE,
    TIME_NS_MAX,
    Alternatives,
    Identity,
    Pairs,
    Point,
)
from tests.kit.remote_write.prompb import Histogram

WireLabels = tuple[tuple[bytes, bytes], ...]

STALE_BITS = 0x7FF0000000000002  # prometheus/prometheus, model/value/value.go
TIME_MS_MAX = TIME_NS_MAX // 1_000_000
UNIT_CHARS_MAX = 64
"""The relay's own bound: what comes with a longer unit is not believed."""
SCOPE = ("relay", "")  # where no label names a scope, it names the translator


@dataclass
class Derived:
    """What one request must become. ``dropped`` counts samples by reason."""

    points: list[Alternatives] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    exemplars: int = 0
    histograms: int = 0
    """Good native histograms; what they become is :mod:`tests.kit.oracle.slow_native`'s concern."""
    told: int = 0
    """Samples of ``target_info``, which become attributes of other series' resource."""
    received: int = 0


@dataclass(frozen=True)
class _Family:
    type: int
    help: str
    unit: str


_TYPE_NAMES = {
    0: "unknown",
    1: "counter",
    2: "gauge",
    3: "histogram",
    4: "gaugehistogram",
    5: "summary",
    6: "info",
    7: "stateset",
}

_TYPE_NUMBERS = {name: number for number, name in _TYPE_NAMES.items()}

_COUNTS_UP = {
    "counter": {"": True, "_total": True, "_created": False},
    "gauge": {"": False},
    "unknown": {"": False},
    "histogram": {"": False, "_bucket": True, "_count": True, "_sum": True, "_created": False},
    "gaugehistogram": {
        "": False,
        "_bucket": False,
        "_gcount": False,
        "_gsum": False,
        "_created": False,
    },
    "summary": {"": False, "_count": True, "_sum": True, "_created": False},
    "info": {"": False, "_info": False},
    "stateset": {"": False},
}
"""The members of a family by OpenMetrics, and which of them only ever count up."""

_UCUM_TABLE = """
    days=d hours=h minutes=min seconds=s milliseconds=ms microseconds=us nanoseconds=ns
    bytes=By kibibytes=KiBy mebibytes=MiBy gibibytes=GiBy tebibytes=TiBy
    kilobytes=kBy megabytes=MBy gigabytes=GBy terabytes=TBy
    meters=m volts=V amperes=A joules=J watts=W grams=g celsius=Cel hertz=Hz percent=%
"""
_UCUM = dict(pair.split("=") for pair in _UCUM_TABLE.split())


Said = tuple[int, str, str]
"""Type, help and unit."""


class SlowRelay:
    """Derives the points of one request after the other, learning metadata on the way."""

    def __init__(
        self, *, infer: bool = True, labels_max: int = 128, series_bytes_max: int = 16 * 1024
    ) -> None:
        self._infer = infer
        self._labels_max = labels_max
        self._series_bytes_max = series_bytes_max
        self._families: dict[str, _Family] = {}
        self._inferred: dict[str, str] = {}
        """Families of which a "bucket" with a bound or a "quantile" was seen: these count, unless
        told else."""
        self._own: dict[WireLabels, Said] = {}
        """What series said of themselves last."""
        self._seen: set[WireLabels] = set()
        self._seen_now: set[WireLabels] = set()

    def take(self, request: Any) -> Derived:
        """Derive what a ``prompb.RawWriteRequest`` must become, and remember its metadata."""
        derived = Derived()
        before = dict(self._families)
        for item in request.metadata:
            self._learn(item)
        for series in request.timeseries:
            self._take_series(series, before, derived)
        self._seen |= self._seen_now
        self._seen_now.clear()
        derived.received = len(derived.points) + derived.histograms + derived.dropped.total()
        return derived

    def take_typed(
        self,
        series: Any,
        derived: Derived,
        *,
        said: Said | None = None,
        starts_ms: Sequence[int] = (),
    ) -> None:
        """Derive what a single ``prompb.RawTimeSeries`` must become that comes with ``said`` of
        itself; of each of its samples ``starts_ms`` has the start, 0 for none."""
        pairs = _wire_labels(series)
        labels, fault = self._labels(series, pairs)
        if said is not None and not fault:
            self._declare(pairs, labels["__name__"], said)
        starts = dict(zip([s.timestamp for s in series.samples], starts_ms, strict=False))
        self._take_series(series, dict(self._families), derived, starts)
        self._seen |= self._seen_now
        self._seen_now.clear()

    def learn_of_series(self, name: str, kind: int, text: str, unit: str) -> None:
        """Learn what a series says of its family: the name without the suffix of a member."""
        known = _TYPE_NAMES.get(kind, "")
        for suffix in _COUNTS_UP.get(known, ()):
            is_own = suffix in ("", "_total", "_info") or name == suffix
            if not is_own and name.endswith(suffix):
                name = name.removesuffix(suffix)
                break
        self._learn_family(name, kind, text, unit)

    def identity(self, name: str) -> Identity:
        """What the name is by all metadata so far."""
        return _identity(name, self._families, self._inferred, infer=self._infer)

    def _declare(self, pairs: WireLabels, name: str, said: Said) -> None:
        """Believe a series what it says of itself, and its family where nobody says more."""
        kind, text, unit = said
        kind = kind if kind in _TYPE_NAMES else 0
        if len(unit) <= UNIT_CHARS_MAX and (kind or text or unit):
            self._own[pairs] = kind, text, unit
            self.learn_of_series(name, kind, text, unit)

    def _learn(self, item: Any) -> None:
        family = item.metric_family_name.decode(errors="replace")
        text, unit = item.help.decode(errors="replace"), item.unit.decode(errors="replace")
        self._learn_family(family, item.type, text, unit)

    def _learn_family(self, family: str, kind: int, text: str, unit: str) -> None:
        if len(unit) > UNIT_CHARS_MAX:
            return
        kind = kind if kind in _TYPE_NAMES else 0
        known = self._families.get(family)
        if known is None:
            self._families[family] = _Family(kind, text, unit)
        else:
            self._families[family] = _Family(
                known.type or kind, known.help or text, known.unit or unit
            )

    def _take_series(
        self,
        series: Any,
        before: dict[str, _Family],
        derived: Derived,
        starts: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        derived.exemplars += len(series.exemplars)
        count = len(series.samples) + len(series.histograms)
        if not count and not series.exemplars:
            return
        pairs = _wire_labels(series)
        seen = pairs in self._seen
        self._seen_now.add(pairs)
        labels, fault = self._labels(series, pairs)
        if fault:
            if count:
                derived.dropped[fault] += count
            return
        good_times = set()
        good = 0
        for encoded in series.histograms:
            histogram = slow_native.derive(Histogram.FromString(encoded))
            if histogram.reason:
                derived.dropped[histogram.reason] += 1
            else:
                good += 1
                good_times.add(histogram.time_ns)
        if good > len(good_times):
            derived.dropped["duplicate_timestamp"] += good - len(good_times)
        derived.histograms += len(good_times)
        name = labels.pop("__name__")
        if self._infer:
            self._see_siblings(name, labels)
        kind, unit = labels.pop("__type__", None), labels.pop("__unit__", None)
        said = _TYPE_NUMBERS.get(kind or "", 0)
        if not seen and (kind is not None or unit is not None):
            self.learn_of_series(name, said, "", unit or "")
        said, text, unit = self._own.get(pairs, (said, "", unit or ""))
        scope = _scope(labels)
        resource, attributes = _split(labels)
        identities = [self.identity(name)]
        if seen:
            earlier = _identity(name, before, self._inferred, infer=self._infer)
            if earlier != identities[0]:
                identities.append(earlier)
        if said:
            # What a series says of its type itself holds for it, whatever others say.
            known = [self._families, before] if seen else [self._families]
            identities = [_own_identity(name, (said, text, unit), one) for one in known]
        # Vectors 34 and 35: ascending, and of one time the last that was given.
        latest = {sample.timestamp: sample for sample in series.samples}
        if len(latest) < len(series.samples):
            derived.dropped["duplicate_timestamp"] += len(series.samples) - len(latest)
        for _, sample in sorted(latest.items()):
            if not 0 < sample.timestamp <= TIME_MS_MAX:
                derived.dropped["timestamp"] += 1
                continue
            if name == "target_info":
                derived.told += 1
                continue
            start_ms = starts.get(sample.timestamp, 0)
            derived.points.append(
                tuple(
                    Point(
                        resource,
                        scope,
                        name,
                        identity,
                        attributes,
                        sample.timestamp * 1_000_000,
                        sample.value,
                        NO_RECORDED_VALUE if sample.value == STALE_BITS else 0,
                        start_ms * 1_000_000 if 0 < start_ms <= sample.timestamp else 0,
                    )
                    for identity in identities
                )
            )

    def _see_siblings(self, name: str, labels: Container[str]) -> None:
        """Note what labels say of the family that the name belongs to."""
        if "quantile" in labels:
            self._inferred.setdefault(name, "quantile")
        elif name.endswith("_bucket") and ("le" in labels or "vmrange" in labels):
            self._inferred[name.removesuffix("_bucket")] = "bucket"

    def _labels(self, series: Any, pairs: WireLabels) -> tuple[dict[str, str], str]:
        """The labels of a series, or the reason why it cannot be used."""
        names = [name for name, _ in pairs]
        if sum(_field_bytes(label) for label in series.labels) > self._series_bytes_max:
            return {}, "too_large"
        if len(pairs) > self._labels_max:
            return {}, "too_many_labels"
        if b"" in names:
            return {}, "empty_label_name"
        if len(set(names)) < len(names):
            return {}, "duplicate_label"
        try:
            labels = {name.decode(): value.decode() for name, value in pairs if value}
        except UnicodeDecodeError:
            return {}, "invalid_utf8"
        if "__name__" not in labels:
            return {}, "missing_name"
        return labels, ""


def _wire_labels(series: Any) -> WireLabels:
    return tuple([(label.name, label.value) for label in series.labels])


def _field_bytes(label: Any) -> int:
    """Size of a label in its series: its tag, its length and itself."""
    size: int = label.ByteSize()
    return 1 + max(1, -(-size.bit_length() // 7)) + size


def _scope(labels: dict[str, str]) -> tuple[Any, ...]:
    """The scope that labels name, which are taken out."""
    prefix = "otel_scope_"
    own = {name.removeprefix(prefix): name for name in list(labels) if name.startswith(prefix)}
    said = {key: labels.pop(name) for key, name in own.items()}
    name = said.pop("name", "")
    version = said.pop("version", "") if name else ""
    said.pop("schema_url", "")
    return (name or SCOPE[0], version, *sorted(said.items()))


def _split(labels: dict[str, str]) -> tuple[Pairs, Pairs]:
    """Resource attributes and point attributes, each sorted by key."""
    resource = {}
    rest = dict(labels)
    job = rest.pop("job", "")
    instance = rest.pop("instance", "")
    if job:
        parts = job.split("/")
        if len(parts) == 2 and all(parts):
            resource["service.namespace"], resource["service.name"] = parts
        else:
            resource["service.name"] = job
    if instance:
        resource["service.instance.id"] = instance
    attributes = {_own(key, resource, rest): value for key, value in rest.items()}
    return tuple(sorted(resource.items())), tuple(sorted(attributes.items()))


def _own(key: str, resource: dict[str, str], labels: dict[str, str]) -> str:
    """A label that has the name of a resource attribute says something else, under another name."""
    if key not in resource:
        return key
    while key in resource or key in labels:
        key = f"exported_{key}"
    return key


def _identity(
    name: str, families: dict[str, _Family], inferred: Mapping[str, str], *, infer: bool
) -> Identity:
    own = families.get(name)
    stem, underscore, last = name.rpartition("_")
    family, suffix = families.get(stem), underscore + last
    # What is said of a name without its type says less than its family does.
    if own is not None and own.type:
        return _described(own, "")
    if family is not None and underscore and suffix in _COUNTS_UP[_TYPE_NAMES[family.type]]:
        return _described(family, suffix)
    untyped = family is None or not family.type
    seen = inferred.get(stem, "") if untyped and underscore else ""
    if suffix in _COUNTS_UP[{"bucket": "histogram", "quantile": "summary"}.get(seen, "unknown")]:
        family = family or _Family(0, "", "")
        described = _described(_Family(3, family.help, family.unit), suffix)
        if ":" in name:  # made by a rule, which may as well have made a rate of it
            described = described._replace(kind="gauge", monotonic=False)
        return described._replace(prometheus_type="")
    if own is not None:
        return _described(own, "")
    if infer and name.endswith("_total"):
        return Identity("sum", True, "", "", "")
    return Identity("gauge", False, "", "", "")


def _own_identity(name: str, said: Said, families: dict[str, _Family]) -> Identity:
    """The identity of a series that says its type itself, and perhaps help and unit."""
    kind, text, unit = said
    stem, suffix = name, ""
    for member in _COUNTS_UP[_TYPE_NAMES[kind]]:
        if member not in ("", "_total", "_info") and name.endswith(member) and name != member:
            stem, suffix = name.removesuffix(member), member
    known = families.get(stem, _Family(0, "", ""))
    return _described(_Family(kind, text or known.help, unit or known.unit), suffix)


def _described(family: _Family, suffix: str) -> Identity:
    type_name = _TYPE_NAMES[family.type]
    monotonic = _COUNTS_UP[type_name][suffix]
    kind = "sum" if monotonic or type_name in ("info", "stateset") else "gauge"
    # These count observations, or say when; the rest is of the family's unit.
    unit = {"_bucket": "", "_count": "", "_created": "seconds"}.get(suffix, family.unit)
    unit = _UCUM.get(unit, unit)
    return Identity(kind, monotonic, unit, family.help, type_name)
