"""Long lists of a request are worked off and freed with pauses, and what they did stays known."""

from __future__ import annotations

import pytest

from relay.codec.remote_write.native_histogram import HistogramFault, parse_histogram
from relay.codec.remote_write.v1 import Spans
from relay.pipeline.metrics.hotpath.slow_path import SAMPLES_STEP, in_order
from relay.pipeline.metrics.translate.target_info_scan import FIND_BYTES, target_info_keys_v1
from relay.pipeline.pacing import DEFERRED_STEP, ENTRIES, empty
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.hostile_bodies import (
    NOW_MS,
    ONE,
    TARGET_INFO,
    field,
    labels,
    many,
    metadata,
    native,
    sample,
    span,
)


class Pauses:
    """Counts calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_a_list_is_emptied_with_pauses() -> None:
    pause = Pauses()
    kept = list(range(3 * ENTRIES + 1))
    empty(kept, pause)
    assert kept == []
    assert pause.count == 4


def test_spans_are_pairs_in_order() -> None:
    spans = Spans()
    for at in range(3):
        spans.append(at, at + 10)
    assert list(spans) == [(0, 10), (1, 11), (2, 12)]
    assert len(spans) == 3
    assert "3 messages" in repr(spans)


def test_samples_are_put_in_order_with_pauses() -> None:
    count = 2 * SAMPLES_STEP + 1
    samples = [(bytes((n % 256,)), (n * 7_919) % (count - 1)) for n in range(count)]
    pause = Pauses()
    found = in_order(samples, 1, pause)
    assert found == [(value, time) for time, value in sorted({t: v for v, t in samples}.items())]
    assert pause.count == 2
    in_order(samples[:SAMPLES_STEP], 1, pause)
    assert pause.count == 2  # none for what is usual


def test_packed_deltas_are_read_with_pauses() -> None:
    message = native(span(0, 10_000) + field(12, b"\x02" + bytes(9_999)))
    pause = Pauses()
    with pytest.raises(HistogramFault, match="10000 in zero bucket"):
        parse_histogram(message, 1 + 2, len(message), pause=pause)
    assert pause.count == 10_000 // 256


def test_a_target_is_found_across_the_ends_of_searches() -> None:
    name = labels(__name__="target_info")
    for before in range(FIND_BYTES - 2 * len(name), FIND_BYTES + 4):
        padding = field(15, bytes(before))
        pause = Pauses()
        found = list(target_info_keys_v1(padding + TARGET_INFO, 1_000, True, pause))
        assert len(found) == 1
        assert pause.count


def test_what_is_freed_was_an_effect() -> None:
    # It waits for others of its histogram: there is no batch yet, and the journal must have it.
    rig = Rig()
    rig.export(RigSink("s", limit=10))
    body = many(
        4 * DEFERRED_STEP + 1,
        lambda n: field(1, labels(__name__="h_bucket", id=str(n), le="1") + sample(1.0)),
    )
    transaction = rig.engine.ingest(body, now=NOW_MS / 1000, tick=0.0)
    assert transaction.deferred == []
    assert transaction.has_effect


def test_native_histograms_are_freed_and_all_arrive() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10_000))
    points = many(ENTRIES + 5, lambda n: native(span(0, 2) + field(12, b"\x02\x02"), NOW_MS - n))
    transaction = rig.engine.ingest(field(1, ONE + points), now=NOW_MS / 1000, tick=0.0)
    assert transaction.native == []
    assert transaction.has_effect
    rig.flush()
    assert sum(sealed.count for sealed in sink.sealed) == ENTRIES + 5


def test_metadata_of_many_families_is_learned_and_freed() -> None:
    rig = Rig()
    rig.feed(many(3_000, lambda n: metadata(f"f{n}", "help")) + field(1, ONE + sample()))
    assert rig.engine.statistics().types.families == 3_000
