"""Every sample that a source matched is exported, waits, or is named among its sink's drops."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.pipeline.drop_counters import BEFORE_MATCHING, REASONS
from relay.pipeline.limits import Limits
from relay.pipeline.metrics.histograms.group import MEMBERS_MAX
from relay.pipeline.routing.match_set import OutputOptions
from relay.runtime.errors import DecodeError
from relay.selector.matchers import NAME, Matcher, Selector
from tests.kit.engine_rig import EVERYTHING, Rig, RigSink, named
from tests.kit.examples import examples
from tests.kit.remote_write.prompb import Histogram, RawWriteRequest
from tests.kit.remote_write.sample_writes import T0_MS, TYPES

STALE_BITS = 0x7FF0000000000002
OPTIONS = {
    "plain": OutputOptions(),
    "delta": OutputOptions("delta"),
    "numbers": OutputOptions(unsupported=frozenset({"histogram", "summary"})),
    "no-natives": OutputOptions(unsupported=frozenset({"exponential_histogram"})),
    "keeps": OutputOptions("delta", keeps_target_labels=True),
}
SELECTORS = {
    "all": EVERYTHING,
    "no-half": Selector(((Matcher("le", "!=", "0.5"), Matcher("quantile", "!=", "0.9")),)),
    "no-range": Selector(((Matcher(NAME, "=~", "h.*"), Matcher("vmrange", "!=", "1...2")),)),
    "counts": named("h_count"),
    "h": named("h"),
    "h_": Selector(((Matcher(NAME, "=~", "h_(bucket|count|sum)"),),)),
}
FAMILY_TYPES = {"g": "gaugehistogram", "s": "summary", "c": "counter", "i": "info"}
SERIES = (
    *(("h_bucket", ("le", bound)) for bound in ("0.5", "1", "1.0", "+Inf", "x")),
    *(("r_bucket", ("vmrange", bound)) for bound in ("0...0", "1...2", "1...3", "4...+Inf")),
    *((name, ()) for name in ("h_count", "h_sum", "r_count", "c_total", "s_count", "s_sum")),
    *(("s", ("quantile", text)) for text in ("0.5", "0.9", "2")),
    ("g_bucket", ("le", "1")),
    ("g_gcount", ()),
    ("target_info", ("a", "b")),
    ("up", ()),
)
VALUES = st.sampled_from((0.0, 1.0, 2.0, 3.0, 2.5, -1.0, float("inf"), float("nan"), "stale"))
SAMPLES = st.tuples(
    st.sampled_from(SERIES),
    st.sampled_from(("", "a", "b")),
    st.lists(st.tuples(VALUES, st.integers(-1, 5)), min_size=1, max_size=3),
)
WHOLE = {
    ("h_bucket", ("le", "0.5")): 1.0,
    ("h_bucket", ("le", "1")): 2.0,
    ("h_bucket", ("le", "+Inf")): 3.0,
    ("h_count", ()): 3.0,
    ("h_sum", ()): 2.5,
}
SCRAPES = st.tuples(
    st.permutations([*WHOLE]), st.integers(1, 6), st.sampled_from(("a", "b")), st.integers(0, 5)
).map(lambda drawn: [(one, drawn[2], [(WHOLE[one], drawn[3])]) for one in drawn[0][: drawn[1]]])
"""Some or all of a histogram, in any order."""
NATIVES = st.tuples(
    st.sampled_from(("h", "n")),
    st.sampled_from(("schema 0", "schema 9", "custom", "float", "gauge", "stale", "wrong count")),
    st.integers(-1, 5),
)
REQUESTS = st.lists(
    st.tuples(
        st.lists(SAMPLES, max_size=12) | SCRAPES, st.lists(NATIVES, max_size=3), st.booleans()
    ),
    min_size=1,
    max_size=6,
)


def bits(value: float | str) -> int:
    if value == "stale":
        return STALE_BITS
    number: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return number


def written(samples: list[Any], natives: list[Any], *, with_types: bool) -> bytes:
    """A request; times are seconds, -1 one that OTLP cannot express."""
    request = RawWriteRequest()
    for (name, label), instance, points in samples:
        pairs = [("__name__", name), ("instance", instance), *([label] if label else [])]
        series = _series(request, pairs)
        for value, second in points:
            series.samples.add(timestamp=_time(second), value=bits(value))
    for name, kind, second in natives:
        series = _series(request, [("__name__", name), ("instance", "a")])
        histogram = Histogram(timestamp=_time(second))
        _native(histogram, kind)
        series.histograms.append(histogram.SerializeToString())
    if with_types:
        for family, described in FAMILY_TYPES.items():
            request.metadata.add(type=TYPES[described], metric_family_name=family.encode())
    return bytes(request.SerializeToString())


def _time(second: int) -> int:
    return T0_MS + 1000 * second if second >= 0 else -5


def _series(request: Any, pairs: list[tuple[str, str]]) -> Any:
    series = request.timeseries.add()
    for key, value in pairs:
        if value:
            series.labels.add(name=key.encode(), value=value.encode())
    return series


def _native(histogram: Any, kind: str) -> None:
    if kind == "stale":
        histogram.sum = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
        return
    if kind == "float":
        histogram.count_float = 3.0
        return
    histogram.count_int = 4 if kind == "wrong count" else 3
    histogram.schema = {"schema 9": 9, "custom": -53}.get(kind, 0)
    if kind == "gauge":
        histogram.reset_hint = 3
    if kind == "custom":
        histogram.custom_values.extend((0.5, 1.0))
    histogram.positive_spans.add(offset=0, length=2)
    histogram.positive_deltas.extend((1, 1))


def check(rig: Rig, *, is_over: bool) -> None:
    """The equation, for every sink."""
    engine = rig.engine
    statistics = engine.statistics()
    for sink in rig.sinks:
        counter = sink.counter
        rows = [row for row in statistics.drops if (row.exporter, row.sink) == counter_key(sink)]
        assert len({(row.family, row.reason) for row in rows}) == len(rows)
        named_samples = sum(row.samples for row in rows if row.reason not in BEFORE_MATCHING)
        left = counter.samples - counter.exported - named_samples
        waiting = statistics.assembly.waiting_samples + statistics.first_sight.samples
        if is_over or not waiting:
            assert left == 0, (sink, counter.samples, counter.exported, rows)
        assert 0 <= left <= waiting * sources_of(rig, sink)
        for row in rows:
            assert row.reason in REASONS, row
            assert row.samples > 0
            assert row.since <= row.last
    for row in statistics.drops:
        # Also what is dropped before matching is named, once for each sink that it was for.
        assert row.reason not in BEFORE_MATCHING or row.reason in statistics.dropped_samples


def counter_key(sink: RigSink) -> tuple[str, str]:
    return sink.counter.exporter, sink.counter.sink


def sources_of(rig: Rig, sink: RigSink) -> int:
    _, sources = rig.engine.router.selections(sink.counter.exporter)
    return len(sources)


def rig_of(
    exporters: list[tuple[list[str], list[str]]],
    limits: Limits | None = None,
    first_sight_s: float = 0.0,
) -> Rig:
    """An engine with exporters of these sources and sinks."""
    rig = Rig(limits, first_sight_s=first_sight_s)
    for number, (sources, sinks) in enumerate(exporters):
        exporter = f"x{number}"
        rig.export(
            *(
                RigSink(name, limit=1_000, exporter=exporter, options=OPTIONS[name], shards=2)
                for name in sinks
            ),
            exporter=exporter,
            sources={name: SELECTORS[name] for name in sources},
        )
    return rig


EXPORTERS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(sorted(SELECTORS)), min_size=1, max_size=3, unique=True),
        st.lists(st.sampled_from(sorted(OPTIONS)), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
    max_size=3,
)

WAITS_S = st.sampled_from((0.0, 1.5))
"""How long a family of no known type waits for metadata, s."""

_HALF, _ONE = ("h_bucket", ("le", "0.5")), ("h_bucket", ("le", "1"))
FORGOTTEN_IN_ITS_REQUEST = [
    (_HALF, "", [(0.0, 0)]),
    (_HALF, "a", [(0.0, 0)]),
    (_HALF, "b", [(0.0, 0)]),
    (("r_bucket", ("vmrange", "0...0")), "", [(0.0, 0)]),
    (("s_count", ()), "", [(0.0, 0)]),
    (_ONE, "", [(0.0, 0)]),
]
"""Of four families the first is forgotten, and made anew by a member that more sources take."""


@examples(150)
@given(EXPORTERS, REQUESTS, st.sampled_from((1.0, 20.0)), st.sampled_from((None, 4)), WAITS_S)
@example(
    [(["all"], ["delta"]), (["no-half"], ["delta"])],
    [([], [], True), (FORGOTTEN_IN_ITS_REQUEST, [], False)],
    1.0,
    4,
    0.0,
)
def test_every_sample_is_somewhere(
    exporters: list[tuple[list[str], list[str]]],
    requests: list[Any],
    pace_s: float,
    histograms_max: int | None,
    first_sight_s: float,
) -> None:
    limits = Limits(histograms_max=histograms_max) if histograms_max else None
    rig = rig_of(exporters, limits, first_sight_s)
    tick = 0.0
    for samples, natives, with_types in requests:
        tick += pace_s
        request = written(samples, natives, with_types=with_types)
        # What is only looked at, or cannot be taken, leaves nothing behind.
        rig.engine.dry_run(request, now=1e9 + tick)
        try:
            rig.feed(request + b"\x0a\x01\xff", tick=tick)
        except DecodeError:
            pass
        else:
            raise AssertionError
        check(rig, is_over=False)
        rig.feed(request, tick=tick)
        check(rig, is_over=False)
        rig.due(tick)
        check(rig, is_over=False)
    rig.hand_over(rig.engine.finish(tick))
    check(rig, is_over=True)


EDITS = st.none() | st.lists(st.sampled_from(sorted(SELECTORS)), max_size=3, unique=True)


@examples(150)
@given(EXPORTERS, st.lists(st.tuples(REQUESTS, st.integers(0, 2), EDITS), max_size=4), WAITS_S)
@example(
    [(["all"], ["plain"])],
    [([([(_HALF, "", [(0.0, 0)])], [], False)], 0, ["counts"])],
    0.0,
)
@example(
    [(["counts"], ["plain"]), (["all"], ["plain"])],
    [([([(_HALF, "", [(0.0, 0)])], [], False)], 0, ["all"])],
    0.0,
)
@example(
    [(["counts"], ["plain"]), (["all"], ["plain"])],
    [([([(("up", ()), "", [(0.0, 0)])], [], False)], 0, ["all"])],
    1.5,
)
def test_sources_that_change_while_samples_wait(
    exporters: list[tuple[list[str], list[str]]],
    steps: list[tuple[list[Any], int, list[str] | None]],
    first_sight_s: float,
) -> None:
    """Without sources an exporter is as good as removed."""
    rig = rig_of(exporters, None, first_sight_s)
    tick = 0.0
    for requests, number, sources in steps:
        for samples, natives, with_types in requests:
            tick += 1.0
            rig.feed(written(samples, natives, with_types=with_types), tick=tick)
            if first_sight_s:
                rig.due(tick)
        if sources is not None:
            exporter = f"x{number % len(exporters)}"
            outputs = [sink.target for sink in rig.sinks if sink.counter.exporter == exporter]
            rig.engine.replace_exporter(
                exporter, [(name, SELECTORS[name], outputs) for name in sources]
            )
    rig.hand_over(rig.engine.finish(tick))
    statistics = rig.engine.statistics()
    for sink in rig.sinks:
        rows = [row for row in statistics.drops if (row.exporter, row.sink) == counter_key(sink)]
        dropped = sum(row.samples for row in rows if row.reason not in BEFORE_MATCHING)
        assert sink.counter.samples == sink.counter.exported + dropped, (sink, rows)


@examples(50)
@given(REQUESTS)
def test_what_is_dropped_before_matching_is_named_too(requests: list[Any]) -> None:
    rig = rig_of([(["all"], ["plain"])])
    for samples, natives, with_types in requests:
        rig.feed(written(samples, natives, with_types=with_types))
    statistics = rig.engine.statistics()
    found: Counter[str] = Counter()
    for row in statistics.drops:
        if row.reason in BEFORE_MATCHING:
            found[row.reason] += row.samples
    assert found == statistics.dropped_samples


def taken_apart(*requests: bytes, refused: bytes = b"") -> int:
    """Samples so named for a sink whose source takes no bucket up to 0.5."""
    rig = rig_of([(["no-half"], ["plain"]), (["all"], ["plain"])])
    for request in requests:
        if refused:
            with pytest.raises(DecodeError):
                rig.feed(refused + b"\x0a\x01\xff")  # a last series that is none
        rig.feed(request)
    rig.hand_over(rig.engine.finish(100.0))
    check(rig, is_over=True)
    rows = [row for row in rig.engine.drops.rows() if row.reason == "taken_apart"]
    assert all(row[:3] == ("x0", "plain", "h") for row in rows)
    return sum(row.samples for row in rows)


def test_what_waited_for_a_whole_that_never_was() -> None:
    """The source passes what is asked of it for a histogram, and then not the bucket up to 0.5."""
    half, *rest = (((series), "a", [(value, 1)]) for series, value in WHOLE.items())
    before = written(rest, [], with_types=False)
    after = written([half], [], with_types=False)
    both = written([*rest, half, *rest], [], with_types=False)
    assert taken_apart(before, after) == 4, "in sets"
    assert taken_apart(both) == 4, "in the request; what came behind went as numbers"
    assert taken_apart(written([half, *rest], [], with_types=False)) == 0
    assert taken_apart(before, refused=both) == 0, "what was refused is in no account"
    assert taken_apart(after, refused=both) == 0


def test_reasons_that_take_many_samples() -> None:
    rig = rig_of([(["all"], ["plain"])])
    bounds = [("h_bucket", ("le", f"{n}.5")) for n in range(MEMBERS_MAX + 3)]
    rig.feed(written([(series, "a", [(1.0, 1)]) for series in bounds], [], with_types=False))
    rig.hand_over(rig.engine.finish(100.0))
    check(rig, is_over=True)
    rows = {row.reason: (row.family, row.samples) for row in rig.engine.drops.rows()}
    assert rows == {"too_many_members": ("h", 3), "no_count": ("h", MEMBERS_MAX)}
