"""What a remote-write request must become in OTLP, derived slowly and without the relay's own code.

The oracle of the pipeline: the rules are written down here a second time, straight from our digest
of the specifications (A2 "Content rules", B "Prometheus to OTLP", C "Fields", E "Test vectors"),
with the official protobuf classes on both sides. Nothing of ``relay.pipeline`` or ``relay.codec``
may be imported here.

:class:`SlowRelay` takes requests and says which points must come out; :func:`flatten` takes an
official ExportMetricsServiceRequest apart into the same :class:`Point`, refusing what OTLP's data
model forbids; :func:`assert_same` compares the two.

One freedom is left to the relay: metadata that travels in the same request as samples of a series
that is known already may describe these samples or only those of the next request. Such a point has
two alternatives.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from tests.support import slow_native
from tests.support.prompb import Histogram

Pairs = tuple[tuple[str, str], ...]
WireLabels = tuple[tuple[bytes, bytes], ...]

STALE_BITS = 0x7FF0000000000002  # prometheus/prometheus, model/value/value.go
NO_RECORDED_VALUE = 1  # DataPointFlags
TIME_NS_MAX = 2**63 - 1  # readers keep it in an int64
TIME_MS_MAX = TIME_NS_MAX // 1_000_000
UNIT_CHARS_MAX = 64
"""The relay's own bound: what comes with a longer unit is not believed."""
SCOPE = ("relay", "")  # where no label names a scope, it names the translator


class Identity(NamedTuple):
    """What a metric's name is, apart from where it comes from."""

    kind: str
    monotonic: bool
    unit: str
    description: str
    prometheus_type: str


class Point(NamedTuple):
    """One number point with all that OTLP says about it; ``value_bits`` are the double's own.

    ``scope`` is its name, its version, and its attributes, if it has any.
    """

    resource: Pairs
    scope: tuple[Any, ...]
    name: str
    identity: Identity
    attributes: Pairs
    time_ns: int
    value_bits: int
    flags: int
    start_ns: int = 0


Alternatives = tuple[Point, ...]
"""One point that must come out, in one or two acceptable forms."""


@dataclass
class Derived:
    """What one request must become. ``dropped`` counts samples by reason."""

    points: list[Alternatives] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    exemplars: int = 0
    histograms: int = 0
    """Good native histograms; what they become is :mod:`tests.support.slow_native`'s concern."""
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


def flatten(request: ExportMetricsServiceRequest) -> list[Point]:
    """Every point of a request, in order. AssertionError where OTLP's data model is broken."""
    points: list[Point] = []
    assert request.resource_metrics, "empty envelope"
    resources = []
    for resource_metrics in request.resource_metrics:
        _no_unknown(resource_metrics, resource_metrics.resource)
        resource = _pairs(resource_metrics.resource.attributes)
        resources.append(resource)
        assert resource_metrics.scope_metrics, "empty resource"
        scopes = []
        for scope_metrics in resource_metrics.scope_metrics:
            _no_unknown(scope_metrics, scope_metrics.scope)
            said = _pairs(scope_metrics.scope.attributes)
            scope = (scope_metrics.scope.name, scope_metrics.scope.version, *said)
            scopes.append(scope)
            assert scope_metrics.metrics, "empty scope"
            identities = []
            for metric in scope_metrics.metrics:
                identity = _identity_of(metric)
                identities.append((metric.name, identity))
                data = getattr(metric, identity.kind)
                assert data.data_points, "metric without points"
                context = (resource, scope, metric.name, identity)
                points += [_point(*context, point) for point in data.data_points]
            _unique(identities, "metric")
        _unique(scopes, "scope")
    _unique(resources, "resource")
    return points


def decode(body: bytes) -> list[Point]:
    """:func:`flatten` of a body as it is sent, before compression."""
    return flatten(ExportMetricsServiceRequest.FromString(body))


def _identity_of(metric: Any) -> Identity:
    assert metric.name
    kind = metric.WhichOneof("data")
    assert kind in ("gauge", "sum"), kind
    data = getattr(metric, kind)
    _no_unknown(metric, data)
    monotonic = False
    if kind == "sum":
        assert data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
        monotonic = data.is_monotonic
    metadata = dict(_pairs(metric.metadata))
    prometheus_type = metadata.pop("prometheus.type", "")
    assert not metadata
    return Identity(kind, monotonic, metric.unit, metric.description, prometheus_type)


def _point(
    resource: Pairs, scope: tuple[Any, ...], name: str, identity: Identity, point: Any
) -> Point:
    _no_unknown(point)
    assert point.WhichOneof("value") == "as_double", "a value must be present"
    assert 0 < point.time_unix_nano <= TIME_NS_MAX
    assert point.start_time_unix_nano <= point.time_unix_nano
    for exemplar in point.exemplars:
        assert len(exemplar.trace_id) in (0, 16)
        assert exemplar.WhichOneof("value") == "as_double"
    attributes = _pairs(point.attributes)
    (bits,) = struct.unpack("<Q", struct.pack("<d", point.as_double))
    return Point(
        resource,
        scope,
        name,
        identity,
        attributes,
        point.time_unix_nano,
        bits,
        point.flags,
        point.start_time_unix_nano,
    )


def _pairs(attributes: Iterable[Any]) -> Pairs:
    pairs = []
    for attribute in attributes:
        assert attribute.key
        assert attribute.value.WhichOneof("value") == "string_value"
        pairs.append((attribute.key, attribute.value.string_value))
    _unique([key for key, _ in pairs], "attribute key")
    return tuple(sorted(pairs))


def _unique(items: Sequence[Any], what: str) -> None:
    repeated = [item for item, count in Counter(items).items() if count > 1]
    assert not repeated, f"{what} repeated: {repeated[:3]}"


def _no_unknown(*messages: Any) -> None:
    for message in messages:
        assert not len(UnknownFieldSet(message)), f"unknown fields in {type(message).__name__}"


def assert_same(expected: Sequence[Alternatives], actual: Sequence[Point]) -> None:
    """Assert that the same points came out, and those of every stream in the order expected.

    Order counts within a stream (resource, scope, name, identity and attributes) whose points came
    in order of time; others may have been put in order. ``actual`` is in the order of leaving.
    """
    left = Counter(actual)
    open_choices: list[Alternatives] = []
    for alternatives in expected:
        if len(alternatives) > 1:
            open_choices.append(alternatives)
        else:
            left[alternatives[0]] -= 1
    for alternatives in open_choices:
        chosen = next((point for point in alternatives if left[point] > 0), alternatives[0])
        left[chosen] -= 1
    missing = [point for point, count in left.items() if count < 0]
    extra = [point for point, count in left.items() if count > 0]
    assert not missing, f"{len(missing)} points missing; extra: {extra[:2]}; missing: {missing[:2]}"
    assert not extra, f"{len(extra)} points too many: {extra[:3]}"
    _assert_order(expected, actual)


def _assert_order(expected: Sequence[Alternatives], actual: Sequence[Point]) -> None:
    wanted: dict[Any, list[Point]] = defaultdict(list)
    for alternatives in expected:
        for point in alternatives:
            wanted[_stream(point)].append(point)
    got: dict[Any, list[Point]] = defaultdict(list)
    for point in actual:
        got[_stream(point)].append(point)
    for stream, points in got.items():
        times = [point.time_ns for point in wanted[stream]]
        if times != sorted(times):
            continue
        source = iter(wanted[stream])
        for point in points:
            assert any(candidate == point for candidate in source), f"out of order: {point}"


def _stream(point: Point) -> Any:
    return point[:5]
