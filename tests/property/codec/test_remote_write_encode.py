"""Remote write out against the official protobuf classes: whatever came in either version leaves in
either, split and batched anyhow, and is the same per series.

What 1.0 has no form for is left out, and nothing else: starts, and histograms with custom buckets,
which are counted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.codec.remote_write.external_labels import ExternalLabels
from relay.codec.remote_write.raw_series import read_v1, read_v2
from relay.codec.remote_write.split import split_in_two
from relay.codec.remote_write.v1 import WriteProtocol
from tests.kit.remote_write import prompb
from tests.kit.remote_write.careful_encoder import (
    Written,
    count_points,
    encode_requests,
    split_below,
)

V1: WriteProtocol = "remote_write_v1"
V2: WriteProtocol = "remote_write_v2"
CUSTOM = -53

STALE = 0x7FF0000000000002
value_bits = st.sampled_from(
    [STALE, 0x7FF8000000000001, 0xFFF8000000000000, 0x8000000000000000, 0, 1]
) | st.integers(0, 2**64 - 1)
int64s = st.integers(-(2**63), 2**63 - 1) | st.integers(1_600_000_000_000, 1_900_000_000_000)
times = st.just(0) | int64s
texts = st.sampled_from(["", "__name__", "job", "api", "a_bucket", "a_sum", "ü"]) | st.text(
    max_size=150
)
doubles = value_bits.map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
uint64s = st.integers(0, 2**64 - 1)
types = st.integers(0, 7) | st.integers(-(2**31), 2**31 - 1)
spans = st.builds(
    prompb.BucketSpan, offset=st.integers(-(2**31), 2**31 - 1), length=st.integers(0, 2**32 - 1)
)


def histograms(message: Callable[..., Any], **more: Any) -> st.SearchStrategy[Any]:
    """Histograms of any contents, valid or not: nothing looks inside."""
    span = message().positive_spans.add().__class__
    spans_of = st.lists(
        st.builds(span, offset=st.integers(-5, 5), length=st.integers(0, 9)), max_size=2
    )
    common = {
        "sum": doubles,
        "schema": st.integers(-4, 8) | st.just(CUSTOM),
        "zero_threshold": doubles,
        "negative_spans": spans_of,
        "positive_spans": spans_of,
        "negative_deltas": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
        "positive_deltas": st.lists(st.integers(-9, 9), max_size=3),
        "positive_counts": st.lists(doubles, max_size=2),
        "reset_hint": st.integers(0, 3),
        "timestamp": times,
        **more,
    }
    whole = {"count_int": uint64s, "zero_count_int": uint64s}
    broken = {"count_float": doubles, "zero_count_float": doubles}
    return st.one_of(*(st.builds(message, **common, **counts) for counts in (whole, broken, {})))


samples = st.builds(lambda bits, time: (bits, time), value_bits, times)
v1_labels = st.lists(st.builds(prompb.Label, name=texts, value=texts), max_size=4)
v1_series = st.builds(
    prompb.TimeSeries,
    labels=v1_labels,
    exemplars=st.lists(
        st.builds(prompb.Exemplar, labels=v1_labels, value=doubles, timestamp=times), max_size=3
    ),
    histograms=st.lists(histograms(prompb.Histogram), max_size=2),
)
v1_metadata = st.builds(
    prompb.MetricMetadata, type=types, metric_family_name=texts, help=texts, unit=texts
)


@st.composite
def v1_requests(draw: st.DrawFn) -> bytes:
    """A WriteRequest as bytes; the bits of its values never pass through a float."""
    request = prompb.WriteRequest(metadata=draw(st.lists(v1_metadata, max_size=3)))
    raw = prompb.RawWriteRequest()
    for _ in range(draw(st.integers(0, 5))):
        series = raw.timeseries.add()
        series.ParseFromString(draw(v1_series).SerializeToString())
        for bits, time in draw(st.lists(samples, max_size=4)):
            series.samples.add(value=bits, timestamp=time)
    return raw.SerializeToString() + request.SerializeToString()


@st.composite
def v2_requests(draw: st.DrawFn) -> bytes:
    """A v2 Request as bytes, all of whose references point somewhere."""
    symbols = ["", *draw(st.lists(texts, max_size=6))]
    refs = st.integers(0, len(symbols) - 1)
    label_refs = st.lists(st.tuples(refs, refs), max_size=4).map(lambda pairs: sum(pairs, ()))
    raw = prompb.RawRequestV2(symbols=[text.encode() for text in symbols])
    for _ in range(draw(st.integers(0, 5))):
        series = raw.timeseries.add(labels_refs=draw(label_refs))
        for bits, time in draw(st.lists(samples, max_size=4)):
            series.samples.add(value=bits, timestamp=time, start_timestamp=draw(times))
        for histogram in draw(
            st.lists(
                histograms(
                    prompb.HistogramV2,
                    start_timestamp=times,
                    custom_values=st.lists(doubles, max_size=3),
                ),
                max_size=2,
            )
        ):
            series.histograms.append(histogram.SerializeToString())
        for _ in range(draw(st.integers(0, 2))):
            exemplar = prompb.ExemplarV2(
                labels_refs=draw(label_refs), value=draw(doubles), timestamp=draw(times)
            )
            series.exemplars.append(exemplar.SerializeToString())
        if draw(st.booleans()):
            series.metadata.type = draw(types)
            series.metadata.help_ref = draw(refs)
            series.metadata.unit_ref = draw(refs)
        series.created_timestamp = draw(st.just(0) | times)
    return raw.SerializeToString()


@dataclass
class Said:
    """What requests say of one series, by the official classes."""

    samples: list[tuple[int, int, int]] = field(default_factory=list)
    histograms: list[bytes] = field(default_factory=list)
    exemplars: list[tuple[tuple[tuple[bytes, bytes], ...], bytes, int]] = field(
        default_factory=list
    )
    metadata: list[tuple[int, bytes, bytes]] = field(default_factory=list)


Labels = tuple[tuple[bytes, bytes], ...]
Family = tuple[int, bytes, bytes]


def bits_of(value: float) -> bytes:
    """The eight bytes of a double."""
    return struct.pack("<d", value)


def histogram_of(message: bytes, created: int = 0) -> bytes:
    """A histogram in the official class's own spelling."""
    histogram = prompb.HistogramV2.FromString(message)
    if created and not histogram.start_timestamp:
        histogram.start_timestamp = created
    return histogram.SerializeToString(deterministic=True)


def said_v1(bodies: Iterable[bytes]) -> tuple[dict[Labels, Said], dict[bytes, Family]]:
    """What requests of 1.0 say, by series and by family."""
    by_series: dict[Labels, Said] = {}
    families: dict[bytes, Family] = {}
    for body in bodies:
        request = prompb.RawWriteRequest.FromString(body)
        for series in request.timeseries:
            said = by_series.setdefault(
                tuple((label.name, label.value) for label in series.labels), Said()
            )
            said.samples += [(s.value, s.timestamp, 0) for s in series.samples]
            said.histograms += [histogram_of(message) for message in series.histograms]
            for message in series.exemplars:
                exemplar = prompb.Exemplar.FromString(message)
                labels = tuple((x.name.encode(), x.value.encode()) for x in exemplar.labels)
                said.exemplars.append((labels, bits_of(exemplar.value), exemplar.timestamp))
        for one in request.metadata:
            families[one.metric_family_name] = (one.type, one.help, one.unit)
    return by_series, families


def said_v2(bodies: Iterable[bytes]) -> dict[Labels, Said]:
    """What requests of 2.0 say, by series."""
    by_series: dict[Labels, Said] = {}
    for body in bodies:
        request = prompb.RawRequestV2.FromString(body)
        symbols = list(request.symbols)

        def labels_of(refs: Any, symbols: list[bytes] = symbols) -> Labels:
            return tuple(
                (symbols[name], symbols[value])
                for name, value in zip(refs[::2], refs[1::2], strict=True)
            )

        for series in request.timeseries:
            said = by_series.setdefault(labels_of(series.labels_refs), Said())
            created = series.created_timestamp
            said.samples += [
                (s.value, s.timestamp, s.start_timestamp or created) for s in series.samples
            ]
            said.histograms += [histogram_of(m, created) for m in series.histograms]
            for message in series.exemplars:
                exemplar = prompb.ExemplarV2.FromString(message)
                said.exemplars.append(
                    (labels_of(exemplar.labels_refs), bits_of(exemplar.value), exemplar.timestamp)
                )
            if series.HasField("metadata"):
                one = series.metadata
                stated = (one.type, symbols[one.help_ref], symbols[one.unit_ref])
                if stated not in said.metadata:
                    said.metadata.append(stated)
    return by_series


def family_name(labels: Labels, kind: int) -> bytes:
    """The family of a series, said another way than the encoder says it."""
    name = next((value for label, value in labels if label == b"__name__"), b"")
    endings = {3: "bucket count sum", 4: "bucket gcount gsum", 5: "count sum"}.get(kind, "")
    head, line, ending = name.rpartition(b"_")
    return head if line and ending.decode(errors="replace") in endings.split() else name


def families_in(bodies: Iterable[bytes]) -> dict[bytes, Family]:
    """The metadata that requests of 2.0 have beside series, by family; the last word stands."""
    found: dict[bytes, Family] = {}
    for body in bodies:
        request = prompb.RawRequestV2.FromString(body)
        for series in request.timeseries:
            refs = series.labels_refs
            labels = tuple(
                (request.symbols[n], request.symbols[v])
                for n, v in zip(refs[::2], refs[1::2], strict=True)
            )
            one = series.metadata
            stated = (one.type, request.symbols[one.help_ref], request.symbols[one.unit_ref])
            name = family_name(labels, one.type)
            if series.HasField("metadata") and stated != (0, b"", b"") and name:
                found[name] = stated
    return found


def with_points_only(by_series: dict[Labels, Said], last: dict[Labels, int]) -> dict[Labels, Said]:
    """What 2.0 can say of it: no exemplar that came behind the last point of its series."""
    for labels, said in by_series.items():
        del said.exemplars[last.get(labels, 0) :]
        if not said.samples and not said.histograms:
            said.metadata = []
    return saying_something(by_series)


def exemplars_with_points(bodies: Iterable[bytes], message: Any) -> dict[Labels, int]:
    """How many exemplars of each series stand with, or before, a point of it."""
    found: dict[Labels, int] = {}
    seen: dict[Labels, int] = {}
    for body in bodies:
        request = message.FromString(body)
        for series in request.timeseries:
            if message is prompb.RawRequestV2:
                refs = series.labels_refs
                labels = tuple(
                    (request.symbols[n], request.symbols[v])
                    for n, v in zip(refs[::2], refs[1::2], strict=True)
                )
            else:
                labels = tuple((label.name, label.value) for label in series.labels)
            seen[labels] = seen.get(labels, 0) + len(series.exemplars)
            if series.samples or series.histograms:
                found[labels] = seen[labels]
    return found


def lost_exemplars(sent: dict[Labels, Said], last: dict[Labels, int]) -> int:
    """How many exemplars 2.0 has no form for."""
    return sum(len(said.exemplars) - last.get(labels, 0) for labels, said in sent.items())


def metadata_with_points(bodies: Iterable[bytes], labels: Labels) -> list[tuple[int, bytes, bytes]]:
    """What is said of a series' metadata beside points of it."""
    kept = []
    for body in bodies:
        request = prompb.RawRequestV2.FromString(body)
        series = [one for one in request.timeseries if one.samples or one.histograms]
        del request.timeseries[:]
        request.timeseries.extend(series)
        said = said_v2([request.SerializeToString()]).get(labels, Said())
        kept += [one for one in said.metadata if one not in kept]
    return kept


def saying_something(by_series: dict[Labels, Said]) -> dict[Labels, Said]:
    """Without series of which there are labels alone."""
    return {labels: said for labels, said in by_series.items() if said != Said()}


def without_v2(by_series: dict[Labels, Said]) -> tuple[dict[Labels, Said], int]:
    """What 1.0 can say of it, and how many histograms it cannot."""
    lost = 0
    for said in by_series.values():
        said.samples = [(bits, time, 0) for bits, time, _ in said.samples]
        said.metadata = []
        kept = []
        for message in said.histograms:
            histogram = prompb.HistogramV2.FromString(message)
            histogram.start_timestamp = 0
            if histogram.schema == CUSTOM:
                lost += 1
            else:
                kept.append(histogram.SerializeToString(deterministic=True))
        said.histograms = kept
    return saying_something(by_series), lost


def split_anyhow(
    encoded: list[Written], protocol: WriteProtocol, bytes_max: int, limits: list[int]
) -> list[bytes]:
    """Split some of the requests further, and check sizes and counts on the way."""
    bodies = []
    sent = [request for request in encoded if request.data]
    for index, request in enumerate(sent):
        assert request.points == count_points(request.data, protocol)
        check_size(request, protocol, bytes_max)
        pieces = split_below(request.data, protocol, limits[index % len(limits)])
        assert sum(piece.points for piece in pieces) == request.points
        for piece in pieces:
            assert piece.points == count_points(piece.data, protocol)
            check_size(piece, protocol, limits[index % len(limits)])
        bodies += [piece.data for piece in pieces]
    return bodies


def check_size(request: Written, protocol: WriteProtocol, bytes_max: int) -> None:
    """A request is only larger than allowed where it cannot be cut."""
    if len(request.data) > bytes_max:
        assert split_in_two(request.data, protocol) is None


sizes = st.sampled_from([1, 1 << 30]) | st.integers(1, 600)
size_lists = st.lists(sizes, min_size=1, max_size=4)
examples = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@examples
@given(st.lists(v1_requests(), min_size=1, max_size=3), sizes, size_lists)
def test_1_0_as_1_0(bodies: list[bytes], bytes_max: int, limits: list[int]) -> None:
    read = [read_v1(body) for body in bodies]
    encoded = encode_requests(
        [series for some, _ in read for series in some],
        [one for _, some in read for one in some],
        protocol=V1,
        bytes_max=bytes_max,
    )
    sent, families = said_v1(bodies)
    got, got_families = said_v1(split_anyhow(encoded, V1, bytes_max, limits))
    expected, lost = without_v2(sent)
    assert got == expected
    assert got_families == families
    assert sum(request.unexpressed for request in encoded) == lost


@examples
@given(st.lists(v2_requests(), min_size=1, max_size=3), sizes, size_lists)
def test_2_0_as_2_0(bodies: list[bytes], bytes_max: int, limits: list[int]) -> None:
    series = [one for body in bodies for one in read_v2(body)]
    encoded = encode_requests(series, protocol=V2, bytes_max=bytes_max)
    sent, last = said_v2(bodies), exemplars_with_points(bodies, prompb.RawRequestV2)
    lost = lost_exemplars(sent, last)
    left = split_anyhow(encoded, V2, bytes_max, limits)
    got = said_v2(left)
    for said in got.values():
        said.metadata.sort()
    expected = with_points_only(sent, last)
    for labels, said in expected.items():
        said.metadata = sorted(metadata_with_points(bodies, labels))
    assert got == expected
    assert sum(request.lone_exemplars for request in encoded) == lost
    for body in left:
        request = prompb.RequestV2.FromString(body)
        assert request.symbols[0] == ""
        for one in request.timeseries:
            assert bool(one.samples) != bool(one.histograms)


@examples
@given(st.lists(v1_requests(), min_size=1, max_size=3), sizes, size_lists)
def test_1_0_as_2_0(bodies: list[bytes], bytes_max: int, limits: list[int]) -> None:
    series = [one for body in bodies for one in read_v1(body)[0]]
    encoded = encode_requests(series, protocol=V2, bytes_max=bytes_max)
    sent, last = said_v1(bodies)[0], exemplars_with_points(bodies, prompb.RawWriteRequest)
    lost = lost_exemplars(sent, last)
    got = said_v2(split_anyhow(encoded, V2, bytes_max, limits))
    assert got == with_points_only(sent, last)
    assert sum(request.lone_exemplars for request in encoded) == lost


@examples
@given(st.lists(v2_requests(), min_size=1, max_size=3), sizes, size_lists)
def test_2_0_as_1_0(bodies: list[bytes], bytes_max: int, limits: list[int]) -> None:
    series = [one for body in bodies for one in read_v2(body)]
    encoded = encode_requests(series, protocol=V1, bytes_max=bytes_max)
    got, families = said_v1(split_anyhow(encoded, V1, bytes_max, limits))
    expected, lost = without_v2(said_v2(bodies))
    assert got == expected
    assert families == families_in(bodies)
    assert sum(request.unexpressed for request in encoded) == lost


@examples
@given(v1_requests(), st.dictionaries(st.text(min_size=1, max_size=4), texts, max_size=4))
def test_external_labels_never_overwrite(body: bytes, external: dict[str, str]) -> None:
    series, _ = read_v1(body)
    added = ExternalLabels(external)
    for one in series:
        before = labels_in(one.labels)
        after = labels_in(added.added_to(one.labels))
        own = [(name, value) for name, value in before if value]
        given_too = {
            name: value
            for name, value in external.items()
            if value and name not in {name for name, _ in own}
        }
        if not any(external.values()):
            assert after == before
        else:
            assert after == sorted([*own, *given_too.items()], key=lambda pair: pair[0].encode())


def labels_in(key: bytes) -> list[tuple[str, str]]:
    """The labels of a key, by the official class."""
    return [(x.name, x.value) for x in prompb.TimeSeries.FromString(key).labels]
