"""What arrives at a remote-write sink is what was sent, whatever other sinks do with it.

Requests of both versions, of two projects, to sinks of both versions and of OTLP, in batches cut
anyhow. Times go up, so that a series has one order; what is refused before routing is not drawn.
"""

from __future__ import annotations

import struct
from collections import Counter
from itertools import product
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from relay.pipeline.drop_counters import BEFORE_MATCHING
from relay.pipeline.limits import Limits
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import Tenancy
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink
from tests.kit.examples import examples
from tests.kit.remote_write.as_sent import AsSent, Labels, SentPoint
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.symbolic import T0_MS, Request2

PROJECTS = ("p1", "p2")
DELTA = OutputOptions(temporality="delta")
CLASSIC = OutputOptions(unsupported=frozenset({"exponential_histogram"}))
FAMILIES = {
    "up": (2, "is it up", ""),
    "req": (1, "requests", "bytes"),
    "req_total": (1, "requests in all", ""),
    "h": (3, "a histogram", "seconds"),
    "odd": (0, "nobody knows", ""),
    "target": (6, "the target", ""),
}
NAMES = {
    "up": ["up"],
    "req": ["req_total"],
    "req_total": ["req_total"],
    "h": ["h", "h_bucket", "h_count", "h_sum"],
    "odd": ["odd"],
    "target": ["target_info"],
}


def words_of(name: str) -> set[tuple[int, str, str]]:
    """What may be said of a metric: where senders disagree, each word is one of theirs.

    What the platform said without an owner is a type alone.
    """
    said = [FAMILIES[family] for family, names in NAMES.items() if name in names]
    kinds, texts, units = (set(words) for words in zip(*said, strict=True))
    return {*product(kinds, texts, units), *product(kinds, [""], [""])}


STALE = 0x7FF0000000000002
BITS = st.one_of(
    st.sampled_from([0, STALE, 0x7FF8000000000001, 0x7FF0000000000ABC, 1 << 63, 0x7FF << 52]),
    st.integers(0, 2**64 - 1),
)
LABELS = st.fixed_dictionaries(
    {"project": st.sampled_from(["p1", "p2", "p1", "p2", "", "elsewhere"])},
    optional={
        "job": st.sampled_from(["api", "ns/app"]),
        "instance": st.just("h:1"),
        "le": st.sampled_from(["0.5", "+Inf"]),
        "zone": st.just("\u00e9" * 70),
        "Zeta": st.just("1"),
    },
)


class Given(NamedTuple):
    """A TimeSeries to be sent; times are given out later."""

    labels: Labels
    samples: list[int]
    histograms: list[str]
    exemplars: list[str]
    started: bool
    family: str


@st.composite
def drawn_series(draw: st.DrawFn) -> Given:
    """A series of either version."""
    family = draw(st.sampled_from(sorted(NAMES)))
    name = draw(st.sampled_from(NAMES[family]))
    pairs = [pair for pair in draw(LABELS).items() if pair[1]]
    pairs.append(("__name__", name))
    if draw(st.booleans()):
        pairs.sort()
    else:
        pairs = draw(st.permutations(pairs))
    return Given(
        tuple(pairs),
        draw(st.lists(BITS, max_size=3)),
        draw(st.lists(st.sampled_from(sorted(HISTOGRAMS)), max_size=2)),
        draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=2)),
        draw(st.booleans()),
        family,
    )


def _exponential(histogram: Any) -> None:
    histogram.count_int = 5
    histogram.sum = 4.5
    histogram.zero_count_int = 1
    histogram.positive_spans.add(offset=-1, length=2)
    histogram.positive_deltas.extend([3, -2])


def _gauge(histogram: Any) -> None:
    _exponential(histogram)
    histogram.reset_hint = 3


def _float(histogram: Any) -> None:
    histogram.count_float = 2.5
    histogram.zero_count_float = 2.5


def _custom(histogram: Any) -> None:
    histogram.schema = -53
    histogram.count_int = 3
    histogram.positive_spans.add(offset=0, length=2)
    histogram.positive_deltas.extend([1, 1])
    histogram.custom_values.extend([0.5, 1.5])


def _fine(histogram: Any) -> None:
    histogram.schema = 20


def _stale(histogram: Any) -> None:
    histogram.sum = struct.unpack("<d", struct.pack("<Q", STALE))[0]


HISTOGRAMS = {
    "exponential": _exponential,
    "gauge": _gauge,
    "float": _float,
    "custom": _custom,
    "fine": _fine,
    "stale": _stale,
}
TYPED = ("exponential", "custom", "stale")
REQUESTS = st.lists(
    st.tuples(st.sampled_from(["1", "2"]), st.lists(drawn_series(), max_size=6)),
    min_size=1,
    max_size=5,
)


class Sender:
    """Writes requests of either version, with times that go up."""

    def __init__(self) -> None:
        self.now = T0_MS
        self.sent = AsSent()

    def tick(self) -> int:
        """The next time."""
        self.now += 1_000
        return self.now

    def write(self, version: str, given: list[Given]) -> tuple[bytes, Any]:
        """A request, and its protocol."""
        return self._v1(given) if version == "1" else self._v2(given)

    def _v1(self, given: list[Given]) -> tuple[bytes, Any]:
        message = WriteRequest()
        for one in given:
            series = message.timeseries.add()
            for name, value in one.labels:
                series.labels.add(name=name, value=value)
            for kind in one.histograms[: len(one.samples) + 1]:
                HISTOGRAMS[kind](series.histograms.add())
            self._fill(series, one)
            for text in one.exemplars:
                exemplar = series.exemplars.add(value=1.5, timestamp=self.now)
                exemplar.labels.add(name="trace_id", value=text)
        body = message.SerializeToString()
        body = _with_values(body, given)
        self.sent.read_v1(body)
        return body, "remote_write_v1"

    def _v2(self, given: list[Given]) -> tuple[bytes, Any]:
        message = Request2()
        for one in given:
            series = message.series(dict(one.labels), metadata=FAMILIES[one.family])
            if not one.samples:
                for kind in one.histograms:
                    HISTOGRAMS[kind](series.histograms.add())
            self._fill(series, one)
            if one.started:
                for sample in series.samples:
                    sample.start_timestamp = T0_MS
                if series.histograms:
                    series.created_timestamp = T0_MS
            for text in one.exemplars:
                message.exemplar(series, {"trace_id": text}, 1.5, self.now)
        body = message.body
        body = _with_values(body, given)
        self.sent.read_v2(body)
        return body, "remote_write_v2"

    def _fill(self, series: Any, one: Given) -> None:
        for at in range(len(one.samples)):
            series.samples.add(value=_place(at), timestamp=self.tick())
        for histogram in series.histograms:
            histogram.timestamp = self.tick()


def _place(at: int) -> float:
    """A value that stands for the bits to be written: no sample has it otherwise."""
    return 7e77 + at * 1e70


def _with_values(body: bytes, given: list[Given]) -> bytes:
    """Put the bits of the samples into a body: a float may not keep those of a NaN."""
    at = 0
    for one in given:
        for place, bits in enumerate(one.samples):
            placeholder = struct.pack("<d", _place(place))
            at = body.index(placeholder, at)
            body = body[:at] + struct.pack("<Q", bits) + body[at + 8 :]
            at += 8
    return body


def metadata_of(families: dict[str, tuple[int, str, str]]) -> bytes:
    """A request of 1.0 with metadata alone."""
    message = WriteRequest()
    for family, (kind, text, unit) in families.items():
        message.metadata.add(type=kind, metric_family_name=family, help=text, unit=unit)
    body: bytes = message.SerializeToString()
    return body


def last_samples() -> bytes:
    """A sample for every shard of every sink: :func:`run` checks that they are enough."""
    message = WriteRequest()
    for project in PROJECTS:
        for number in range(16):
            series = message.timeseries.add()
            for name, value in (
                ("__name__", "last"),
                ("number", str(number)),
                ("project", project),
            ):
                series.labels.add(name=name, value=value)
            series.samples.add(value=1.0, timestamp=T0_MS + 10**9)
    body: bytes = message.SerializeToString()
    return body


LAST = last_samples()


def rig_of(limit: int, *, has_raw: bool, shards: int = 1, first_sight_s: float = 0.0) -> Rig:
    """An engine with tenants, each with sinks of OTLP and perhaps of remote write."""
    rig = Rig(
        Limits(series_max=500),
        tenancy=Tenancy("project"),
        first_sight_s=first_sight_s,
    )
    for project in PROJECTS:
        options = {"plain": OutputOptions(), "delta": DELTA, "classic": CLASSIC}
        if has_raw:
            external = (("cluster", "c1"), ("job", "never"))
            options |= {
                "raw1": RAW1,
                "raw2": RAW2,
                "quiet": OutputOptions(protocol="remoteWrite2"),
                "labelled": OutputOptions(protocol="remoteWrite1", external_labels=external),
            }
        sinks = [
            RigSink(name, limit=limit + at, shards=shards + at % 2, options=one, exporter=project)
            for at, (name, one) in enumerate(options.items())
        ]
        rig.export(*sinks, exporter=project, project=project)
    return rig


def run(rig: Rig, bodies: list[tuple[bytes, Any]]) -> None:
    """Feed the requests, then what makes everything leave."""
    rig.feed(metadata_of({f: t for f, t in FAMILIES.items() if f != "req_total"}))
    for number, (body, protocol) in enumerate(bodies):
        rig.feed(body, tick=float(number), protocol=protocol)
    # Exemplars and metadata leave with points alone.
    rig.feed(LAST, tick=float(len(bodies)))
    rig.due(1e6)
    rig.flush()
    rig.engine.statistics()
    raw = [sink for sink in rig.sinks if sink.target.options.is_raw]
    assert all(shard for sink in raw for shard in sink.sealed_by_lane)


def arrived_at(sink: RigSink) -> AsSent:
    """All that arrived at a sink, without the last samples."""
    arrived = sink.as_sent()
    for labels in [labels for labels in arrived.series if ("__name__", "last") in labels]:
        del arrived.series[labels]
    return arrived


def sinks_of(rig: Rig, name: str) -> list[tuple[str, RigSink]]:
    """A sink of each project."""
    return [(sink.target.counter.exporter, sink) for sink in rig.sinks if sink.name == name]


def expected_of(sent: AsSent, project: str) -> AsSent:
    """The part of a project."""
    return AsSent(
        {labels: series for labels, series in sent.series.items() if ("project", project) in labels}
    )


def has_form(point: SentPoint) -> bool:
    """Whether 1.0 has a form for a point."""
    return not isinstance(point.content, bytes) or b"\x20\x69" not in point.content  # schema -53


def check_counters(rig: Rig) -> None:
    """Everything is counted: what a sink got, and why it did not get the rest."""
    dropped = Counter[tuple[str, str]]()
    for row in rig.engine.drops.rows():
        if row.reason not in BEFORE_MATCHING:
            dropped[row.exporter, row.sink] += row.samples
    for sink in rig.sinks:
        counter = sink.counter
        assert counter.points == sum(sealed.count for sealed in sink.sealed)
        assert all(0 < sealed.count <= sink.limit for sealed in sink.sealed)
        assert counter.samples == counter.exported + dropped[counter.exporter, counter.sink]
        if sink.target.options.is_raw:
            assert counter.exported == counter.points
    statistics = rig.engine.statistics()
    for source in rig.engine.router.source_counters():
        raw = [sink for sink in rig.sinks if sink.counter.exporter == source.exporter]
        assert all(sink.counter.samples <= source.samples for sink in raw)
    assert statistics.exemplars.sent + statistics.exemplars.dropped <= statistics.exemplars.received


@given(REQUESTS, st.integers(1, 9), st.integers(1, 3))
@examples(120)
def test_series_arrive_as_they_were_sent(
    requests: list[tuple[str, list[Given]]], limit: int, shards: int
) -> None:
    sender = Sender()
    bodies = [sender.write(version, given) for version, given in requests]
    rig = rig_of(limit, has_raw=True, shards=shards)
    run(rig, bodies)
    for project, sink in sinks_of(rig, "raw1"):
        arrived = arrived_at(sink)
        for labels, series in expected_of(sender.sent, project).series.items():
            points = [point._replace(start_ms=0) for point in series.points if has_form(point)]
            found = arrived.series.pop(labels, None)
            assert (found.points if found else []) == points
            if found is not None:
                assert found.exemplars == series.exemplars
        assert not arrived.series
    for name in ("raw2", "quiet"):
        for project, sink in sinks_of(rig, name):
            arrived = arrived_at(sink)
            assert not arrived.bare
            left = Counter[Any]()
            for labels, series in expected_of(sender.sent, project).series.items():
                found = arrived.series.pop(labels, None)
                assert (found.points if found else []) == series.points
                came = Counter(found.exemplars if found else ())
                left += Counter(series.exemplars) - came
                assert not came - Counter(series.exemplars)
                if found is not None:
                    if ("__name__", "odd") not in labels:
                        assert bool(found.metadata) == (name == "raw2")
                    assert set(found.metadata) <= words_of(dict(labels)["__name__"])
            assert not arrived.series
            assert left.total() >= sink.lone_exemplars
    check_counters(rig)


@given(REQUESTS, st.integers(1, 9), st.sampled_from([0.0, 3.0]))
@examples(120)
def test_other_sinks_get_what_they_get_without_raw_ones(
    requests: list[tuple[str, list[Given]]], limit: int, first_sight_s: float
) -> None:
    sender = Sender()
    bodies = [sender.write(version, given) for version, given in requests]
    rigs = [
        rig_of(limit, has_raw=has_raw, first_sight_s=first_sight_s) for has_raw in (True, False)
    ]
    for rig in rigs:
        run(rig, bodies)
    check_counters(rigs[0])
    with_raw, without = (
        {
            (sink.counter.exporter, sink.name): sink
            for sink in rig.sinks
            if not sink.target.options.is_raw
        }
        for rig in rigs
    )
    for key, sink in with_raw.items():
        other = without[key]
        assert sink.any_points() == other.any_points()
        assert [one.count for one in sink.sealed] == [one.count for one in other.sealed]
        for name in ("points", "samples", "exported"):
            assert getattr(sink.counter, name) == getattr(other.counter, name)
    drops, others = (
        {row._replace(since=0, last=0) for row in rig.engine.drops.rows()} for rig in rigs
    )
    assert others <= drops


@given(REQUESTS, st.integers(1, 9))
@examples(60)
def test_metadata_arrives_for_every_family(
    requests: list[tuple[str, list[Given]]], limit: int
) -> None:
    sender = Sender()
    bodies = [sender.write(version, given) for version, given in requests]
    rig = Rig(Limits(series_max=500))
    for sink in (RigSink("raw1", limit=limit, options=RAW1),):
        rig.export(sink)
    run(rig, bodies)
    arrived = rig.sinks[0].as_sent()
    names = {dict(labels)["__name__"] for labels, found in arrived.series.items() if found.points}
    for family, told in FAMILIES.items():
        if family != "req_total" and names & set(NAMES[family]):
            assert arrived.families[family] == told
    # 2.0 names no family: one is made of the series' name, perhaps of two declarations.
    for family in arrived.families.keys() - {"req_total", "target_info"}:
        assert arrived.families[family] == FAMILIES[family]
