"""Metadata for thousands of remote-write sinks that take the same series."""

from __future__ import annotations

from relay.pipeline.metrics.raw.metadata import LOOK_SINKS_MAX, REPEAT_S
from relay.pipeline.routing.match_set import OutputOptions
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink
from tests.kit.remote_write import raw
from tests.kit.remote_write.raw import T0_MS
from tests.own_time import LeastTime

SINKS = 1_500
RATIO_MAX = 10.0
"""It was about 300 where each series looked for each sink among all of them."""


def rig_of(sinks: int, options: OutputOptions) -> Rig:
    rig = Rig()
    for number in range(sinks):
        sink = RigSink(f"s{number}", limit=1_000, options=options, exporter=f"x{number}")
        rig.export(sink, exporter=f"x{number}")
    return rig


def sample(name: bytes, number: int, at: int) -> bytes:
    return raw.series([(b"__name__", name), (b"n", b"%d" % number)], (1.0, T0_MS + at))


def seconds_of_new_series(options: OutputOptions) -> float:
    """The time of ten new series of a known metric, s; the best of three."""
    rig = rig_of(SINKS, options)
    rig.feed(sample(b"up", 0, 0))
    least = LeastTime()
    for turn in range(1, 4):
        body = b"".join(sample(b"up", 10 * turn + number, turn) for number in range(10))
        with least.attempt():
            rig.feed(body)
    return least.s


def test_a_new_series_costs_what_it_costs_without_metadata_of_its_own() -> None:
    assert seconds_of_new_series(RAW1) < RATIO_MAX * seconds_of_new_series(RAW2)


def test_a_request_repeats_a_part_and_all_of_it_comes_again() -> None:
    rig = rig_of(SINKS, RAW1)
    names = [f"m{number}" for number in range(20)]
    for at in range(3):  # a request sends a part of what is due
        for name in names:
            rig.feed(raw.metadata(name, 2) + sample(name.encode(), 0, at))
    told = rig.engine.resolver.raw.metadata
    for sink in told._sinks.values():
        sink.due.clear()
    told._due.clear()
    rig.feed(sample(b"m0", 0, 4), tick=0.0)
    due = []
    for turn in range(20):
        rig.feed(sample(b"unknown", 0, 5 + turn), tick=REPEAT_S + turn)
        due.append(sum(len(sink.due) for sink in set(told._sinks.values())))
    assert 0 < due[0] <= LOOK_SINKS_MAX + SINKS
    sent = 20 * 500
    assert len(names) * SINKS - sent <= due[-1] <= len(names) * SINKS
