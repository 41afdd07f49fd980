"""A tap keeps few batches and leaves each as it is; a fault in it costs the sink nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import OtlpHttp
from relay.control.tap.tap import BATCH_POINTS_MAX, KEPT_MAX, POINTS_OF_BATCH, SPACING_S, BatchTap
from relay.pipeline.routing.match_set import OutputOptions
from relay.sink.interface import Encoder
from relay.sink.kinds import encoders_for
from relay.sink.otlp_http import OtlpEncoder
from tests.kit.engine_rig import PLAIN, RAW1, RAW2, Rig, RigSink
from tests.kit.remote_write import raw


def batch_of(count: int, options: OutputOptions = PLAIN) -> tuple[SealedBatch, Encoder]:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=BATCH_POINTS_MAX * 2, options=options))
    rig.feed(
        raw.join(
            raw.text_series({"__name__": "up", "n": str(n)}, (float(n), 10**12 + n))
            for n in range(count)
        )
    )
    rig.flush()
    (sealed,) = sink.sealed
    own = encoders_for(OtlpHttp("https://x")).new
    return sealed, sink.encoder if options.is_raw else own


@pytest.mark.parametrize("options", [PLAIN, RAW1, RAW2])
def test_points_are_spread_over_the_batch(options: OutputOptions) -> None:
    sealed, encoder = batch_of(100, options)
    before = encoder.encode(sealed)
    tap = BatchTap(lambda: encoder)
    tap(sealed)
    points = asyncio.run(tap.take())
    assert len(points) == POINTS_OF_BATCH
    assert [point.value for point in points] == [f"{n}.0" for n in range(0, 100, 5)]
    assert {point.metric for point in points} == {"up"}
    assert [point.labels["n"] for point in points[:2]] == ["0", "5"]
    assert points[1].time_s == pytest.approx(10**9 + 0.005)
    assert encoder.encode(sealed) == before


def test_only_some_batches_are_encoded() -> None:
    now = 0.0
    sealed, encoder = batch_of(3)
    tap = BatchTap(lambda: encoder, tick=lambda: now)
    for _ in range(100):
        tap(sealed)
    assert (tap.batches, tap.points, len(tap._kept)) == (100, 300, 1)
    for _ in range(100):
        now += SPACING_S
        tap(sealed)
    assert len(tap._kept) == KEPT_MAX


def test_a_giant_is_not_encoded() -> None:
    sealed, encoder = batch_of(BATCH_POINTS_MAX + 1)
    tap = BatchTap(lambda: encoder)
    tap(sealed)
    assert (tap.points, len(tap._kept)) == (BATCH_POINTS_MAX + 1, 0)


def test_a_bug_costs_the_sink_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sealed, _ = batch_of(3, RAW1)
    tap = BatchTap(OtlpEncoder)  # of another kind than the batch
    with caplog.at_level(logging.ERROR):
        tap(sealed)
    assert "a batch cannot be shown" in caplog.text
    assert not tap._kept
