"""Exemplars of series of their own in a replay: their sample goes to the batches that need it."""

from __future__ import annotations

import pytest

from relay.pipeline.batching.unfinished import ReplayGate
from tests.kit.engine_rig import NUMBERS, Rig, RigSink
from tests.kit.remote_write.prompb import WriteRequest


def hit(number: int, *, is_exemplar: bool) -> bytes:
    """A request with one sample of a series, or with one exemplar of it alone."""
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name="__name__", value="hits_total")
    if is_exemplar:
        exemplar = series.exemplars.add(value=0.5, timestamp=number)
        exemplar.labels.add(name="trace_id", value="0af7651916cd43dd8448eb211c80319c")
    else:
        series.samples.add(value=1.0, timestamp=number)
    encoded: bytes = request.SerializeToString()
    return encoded


@pytest.mark.parametrize("low", [2, 3])
def test_a_sample_with_waiting_exemplars_goes_to_the_batches_that_need_it(low: int) -> None:
    rig = Rig()
    late, done = (RigSink(name, limit=100, options=NUMBERS) for name in ("late", "done"))
    rig.export(late, done)
    lows = {late: 0, done: low}
    gate = ReplayGate(lambda batch: lows[batch.sink], (), floor=0, ceiling=5)  # type: ignore[index]
    rig.engine.begin_replay(gate)
    withheld: list[object] = []
    for position, is_exemplar in enumerate((False, True, False, False)):
        body = hit(1000 + position, is_exemplar=is_exemplar)
        replayed = rig.engine.replay(body, position=position, now=1.0, tick=0.0)
        rig.hand_over(replayed.transaction.sealed)
        withheld += replayed.withheld
    (batch,) = done.batches
    assert late.held == 3
    assert done.held == {2: 2, 3: 1}[low], "what is below the low position was delivered"
    assert sum(points for other, points in withheld if other is batch) == 3 - done.held  # type: ignore[misc]
