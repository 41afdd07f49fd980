"""Batches of series as they came, against the official protobuf classes: all that is appended
leaves in the order of each series' times, cut and split anyhow; a snappy block is the plain body.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import cramjam
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from relay.codec.body import Body
from relay.codec.otlp.batch import SealedBatch
from relay.codec.otlp.metrics import encode_time
from relay.codec.remote_write.raw.buffer import RawEntry, RawPointBuffer
from relay.codec.remote_write.raw.encoder import V1Encoder, V2Encoder
from relay.codec.remote_write.raw.entries import (
    exemplars_rider,
    histogram_entry,
    metadata_rider,
    sample_entry,
)
from relay.codec.remote_write.raw.label_table import LabelTable
from relay.codec.remote_write.raw_series import RawExemplar, RawSeries
from relay.codec.remote_write.v1 import Metadata, WriteProtocol, label_key
from tests.kit.remote_write import prompb
from tests.kit.remote_write.careful_encoder import encode_requests

V1: WriteProtocol = "remote_write_v1"
V2: WriteProtocol = "remote_write_v2"
UNBOUNDED = 1 << 40
START_MS = 1_700_000_000_000
TYPES = {"remoteWrite1": (V1Encoder, V1), "remoteWrite2": (V2Encoder, V2)}

bits = st.sampled_from(
    [
        0x7FF0000000000002,  # the stale marker
        0x7FF8000000000001,
        0xFFF8000000000123,
        0x8000000000000000,
        0x7FF0000000000000,
        0xFFF0000000000000,
        0,
        1,
        0x3FF0000000000000,
    ]
) | st.integers(0, 2**64 - 1)
times = st.sampled_from([START_MS, START_MS + 1, START_MS + 15_000, 1, 9_223_372_036_854]) | (
    st.integers(1, 2**63 // 1_000_000 - 1)
)
names = st.sampled_from(["__name__", "job", "instance", "le", "n" * 100, "ü"])
values = (
    st.sampled_from(["", "a", "node_cpu_seconds_total", "10.0.0.1:9100", "v" * 62, "w" * 70])
    | st.integers(0, 10_000).map(lambda number: f"{number:08}")
    | st.integers(1, 130).map(lambda size: "x" * size)
    | st.sampled_from(["y" * 300, "z" * 70_000, "q" * 65_536])
)
pairs = st.lists(st.tuples(names, values), max_size=6)
exemplars = st.lists(
    st.builds(
        RawExemplar,
        st.lists(st.tuples(names, st.sampled_from(["", "abc", "def"])), max_size=2).map(label_key),
        bits.map(lambda number: struct.pack("<Q", number)),
        st.integers(-(2**63), 2**63 - 1) | times,
    ),
    min_size=1,
    max_size=2,
).map(tuple)
declarations = st.none() | st.tuples(
    st.integers(0, 7), st.sampled_from(["", "help", "api"]), st.sampled_from(["", "s"])
)
histogram_messages = st.builds(
    prompb.HistogramV2,
    count_int=st.integers(0, 9),
    schema=st.sampled_from([-4, 0, 8]),
    positive_deltas=st.lists(st.integers(-9, 9), max_size=3),
    timestamp=times,
)


NO_METADATA = Metadata(0, "", "", "")


@dataclass
class Write:
    """One thing that is appended: of a series by its number, with a value and a time."""

    series: int
    kind: str
    value: bytes
    time_ms: int
    exemplars: tuple[RawExemplar, ...] = ()
    histogram: bytes = b""
    metadata: Metadata = NO_METADATA


writes = st.builds(
    Write,
    st.integers(0, 5),
    st.sampled_from(["plain"] * 8 + ["sample", "histogram", "exemplars", "metadata"]),
    bits.map(lambda number: struct.pack("<Q", number)),
    times,
    exemplars,
    histogram_messages.map(lambda message: message.SerializeToString()),
    st.builds(lambda kind, family: Metadata(kind, family, "h", ""), st.integers(0, 7), names),
)
runs_of_plain = st.builds(
    lambda first, count, time_ms: [
        Write(number % 6, "plain", struct.pack("<d", number), time_ms)
        for number in range(first, first + count)
    ],
    st.integers(0, 9),
    st.integers(0, 40),
    times,
)


@dataclass
class Made:
    """A batch, and what leaves of it: (labels, points, exemplars) of each entry in order."""

    sealed: SealedBatch
    expected: list[Any] = field(default_factory=list)
    metadata: list[Metadata] = field(default_factory=list)


def entry_of(protocol: WriteProtocol, prefix: bytes, write: Write) -> RawEntry:
    """The entry of what is no plain sample."""
    if write.kind == "sample":
        return sample_entry(
            protocol, prefix, write.value, write.time_ms, start_ms=5, exemplars=write.exemplars
        )
    if write.kind == "histogram":
        entry = histogram_entry(
            protocol, prefix, write.histogram, write.time_ms, exemplars=write.exemplars
        )
        assert entry is not None
        return entry
    return exemplars_rider(protocol, prefix, write.exemplars)


def said_by(write: Write, labels: Any, protocol: WriteProtocol) -> Any:
    """(labels, samples, histograms, exemplars, time) of an entry."""
    start = 5 if protocol == V2 and write.kind == "sample" else 0
    number = int.from_bytes(write.value, "little")
    samples = [(number, write.time_ms, start)] if write.kind in ("plain", "sample") else []
    histograms = [write.histogram] if write.kind == "histogram" else []
    given_exemplars = () if write.kind == "plain" else write.exemplars
    time_ms = write.time_ms
    if write.kind == "exemplars":
        time_ms = min(max(0, write.exemplars[0].time_ms), (2**63 - 1) // 1_000_000)
    return labels, samples, histograms, list(given_exemplars), time_ms


def make(
    series: list[list[tuple[str, str]]],
    requests: list[list[Write]],
    protocol: WriteProtocol,
    declaration: Any = None,
    tables: int = 1,
) -> Made:
    """Append the points to write, a run for each request, and with each of the tables in turn."""
    buffer = RawPointBuffer()
    labels_of = [label_key(labels) for labels in series]
    spread = [LabelTable() for _ in range(tables)]
    prefixes = [[table.place(key, declaration) for key in labels_of] for table in spread]
    made = Made(SealedBatch(buffer, 0, 1, 1.0))
    entries = []
    points = 0
    for at, request in enumerate(requests):
        table = at % tables
        for write in request:
            number = write.series % len(series)
            prefix = prefixes[table][number]
            if write.kind == "metadata":
                if protocol == V1:
                    assert buffer.add_rider(metadata_rider(write.metadata))
                    made.metadata.append(write.metadata)
                continue
            if write.kind == "plain":
                stamp = encode_time(write.time_ms)
                assert stamp is not None
                buffer.add(prefix, stamp, write.value)
                points += 1
            elif write.kind == "exemplars":
                assert buffer.add_rider(entry_of(protocol, prefix, write))
            else:
                buffer.add_finished(entry_of(protocol, prefix, write))
                points += 1
            entries.append(said_by(write, tuple(series[number]), protocol))
        buffer.close_run(spread[table].group(at))
    latest: dict[Any, int] = {}
    is_late = False
    for labels, *_, time_ms in entries:
        is_late |= time_ms < latest.get(labels, 0)
        latest[labels] = time_ms
    event(f"late: {is_late}")
    if is_late:
        entries.sort(key=lambda entry: entry[-1])
    made.expected = [entry[:-1] for entry in entries]
    made.sealed = SealedBatch(buffer, points, 1, 1.0)
    return made


def text(raw: bytes) -> str:
    return raw.decode()


def read_exemplar(message: Any) -> RawExemplar:
    return RawExemplar(
        label_key([(label.name, label.value) for label in message.labels]),
        struct.pack("<d", message.value),
        message.timestamp,
    )


def read_back_v1(body: bytes) -> tuple[list[Any], list[Metadata]]:
    """Entries and metadata of a request, by the official classes."""
    request = prompb.RawWriteRequest.FromString(body)
    entries = [
        (
            tuple((text(label.name), text(label.value)) for label in series.labels),
            [(sample.value, sample.timestamp, 0) for sample in series.samples],
            list(series.histograms),
            [read_exemplar(prompb.Exemplar.FromString(raw)) for raw in series.exemplars],
        )
        for series in request.timeseries
    ]
    return entries, [
        Metadata(one.type, text(one.metric_family_name), text(one.help), text(one.unit))
        for one in request.metadata
    ]


def read_back_v2(body: bytes) -> tuple[list[Any], list[Any]]:
    """Entries of a request and their metadata, by the official classes."""
    request = prompb.RawRequestV2.FromString(body)
    symbols = [text(symbol) for symbol in request.symbols]
    assert symbols[0] == ""
    assert len(set(symbols)) == len(symbols)

    def labels_of(refs: Any) -> list[tuple[str, str]]:
        return [
            (symbols[name], symbols[value])
            for name, value in zip(refs[::2], refs[1::2], strict=True)
        ]

    entries = []
    metadata = []
    for series in request.timeseries:
        found = []
        for raw in series.exemplars:
            message = prompb.ExemplarV2.FromString(raw)
            labels = label_key(labels_of(message.labels_refs))
            found.append(RawExemplar(labels, struct.pack("<d", message.value), message.timestamp))
        entries.append(
            (
                tuple(labels_of(series.labels_refs)),
                [(one.value, one.timestamp, one.start_timestamp) for one in series.samples],
                list(series.histograms),
                found,
            )
        )
        one = series.metadata
        metadata.append(
            (one.type, symbols[one.help_ref], symbols[one.unit_ref])
            if series.HasField("metadata")
            else None
        )
    return entries, metadata


def plain_of(bodies: tuple[Body, ...]) -> list[bytes]:
    """The bodies, decompressed by the library."""
    plain = [bytes(cramjam.snappy.decompress_raw(body.data)) for body in bodies]
    assert [len(data) for data in plain] == [body.encoded_bytes for body in bodies]
    return plain


def check_sizes(bodies: tuple[Body, ...], bytes_max: int, points: int, *, has_riders: bool) -> None:
    """Every body has a point, and none more than it may have unless it cannot be cut."""
    assert sum(body.points for body in bodies) == points
    for body in bodies:
        assert body.points or not points
        if body.encoded_bytes > bytes_max and not has_riders:
            assert body.points < 2


def split_all(encoder: Any, body: bytes, points: int) -> list[bytes]:
    """Halves of halves, down to single points."""
    halves = encoder.split(body)
    if halves is None:
        assert points < 2
        return [body]
    (first, of_first), (second, of_second) = halves
    assert of_first > 0
    assert of_second > 0
    assert of_first + of_second == points
    return split_all(encoder, first, of_first) + split_all(encoder, second, of_second)


batches = (
    st.lists(pairs, min_size=1, max_size=6, unique_by=tuple),
    st.lists(st.lists(writes, max_size=12) | runs_of_plain, min_size=1, max_size=5),
    st.sampled_from([1, 100, 1000, 5000, 100_000, UNBOUNDED]),
    st.integers(1, 2),
)
examples = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@examples
@given(*batches)
def test_1_0(series: list[Any], requests: list[list[Write]], bytes_max: int, tables: int) -> None:
    made = make(series, requests, V1, tables=tables)
    encoder = V1Encoder()
    whole = encoder.encode(made.sealed)
    assert read_back_v1(whole) == (made.expected, made.metadata)
    bodies = encoder.encode_bodies(made.sealed, "snappy", bytes_max)
    plain = plain_of(bodies)
    assert plain == [body.data for body in encoder.encode_bodies(made.sealed, "none", bytes_max)]
    check_sizes(
        bodies,
        bytes_max,
        made.sealed.count,
        has_riders=any(
            write.kind in ("metadata", "exemplars") for run in requests for write in run
        ),
    )
    assert b"".join(plain) == whole
    assert plain_of(encoder.encode_bodies(made.sealed, "snappy", UNBOUNDED)) == [whole]
    pieces = [read_back_v1(piece) for piece in split_all(encoder, whole, made.sealed.count)]
    assert [entry for entries, _ in pieces for entry in entries] == made.expected
    assert [one for _, some in pieces for one in some] == made.metadata
    if made.expected:
        assert pieces[0][1] == made.metadata


@examples
@given(*batches)
def test_1_0_is_what_the_careful_encoder_makes(
    series: list[Any], requests: list[list[Write]], bytes_max: int, tables: int
) -> None:
    made = make(series, requests, V1, tables=tables)
    careful = encode_requests(
        [
            RawSeries(
                label_key(labels),
                [(value.to_bytes(8, "little"), time_ms, 0) for value, time_ms, _ in samples],
                histograms,
                found,
            )
            for labels, samples, histograms, found in made.expected
        ],
        protocol=V1,
        bytes_max=UNBOUNDED,
    )
    metadata = b"".join(metadata_rider(one) for one in made.metadata)
    expected = metadata + b"".join(request.data for request in careful)
    assert V1Encoder().encode(made.sealed) == expected


@examples
@given(*batches, declarations)
def test_2_0(
    series: list[Any],
    requests: list[list[Write]],
    bytes_max: int,
    tables: int,
    declaration: Any,
) -> None:
    made = make(series, requests, V2, declaration, tables)
    encoder = V2Encoder()
    alone: dict[Any, list[RawExemplar]] = {}
    expected = []
    for labels, samples, histograms, found in made.expected:
        if not samples and not histograms:
            alone.setdefault(labels, []).extend(found)
    for labels, samples, histograms, found in made.expected:
        if samples or histograms:
            expected.append((labels, samples, histograms, alone.pop(labels, []) + found))
    bodies = encoder.encode_bodies(made.sealed, "snappy", bytes_max)
    check_sizes(bodies, bytes_max, made.sealed.count, has_riders=False)
    assert sum(body.lone_exemplars for body in bodies) == sum(map(len, alone.values()))
    read = [read_back_v2(body) for body in plain_of(bodies)]
    assert [entry for entries, _ in read for entry in entries] == expected
    for _, metadata in read:
        assert metadata == [declaration] * len(metadata)
    whole = encoder.encode(made.sealed)
    pieces = [read_back_v2(piece)[0] for piece in split_all(encoder, whole, made.sealed.count)]
    assert [entry for entries in pieces for entry in entries] == expected
