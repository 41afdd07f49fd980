"""An exemplar counts once: as sent if a point of any sink has it, else as dropped."""

from __future__ import annotations

import pytest

from relay.pipeline.limits import Limits
from relay.pipeline.routing.match_set import OutputOptions
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.sample_writes import T0_MS, write
from tests.kit.remote_write.symbolic import Request2

PLAIN = OutputOptions()
DELTA = OutputOptions(temporality="delta")
NO_HISTOGRAMS = OutputOptions(temporality="delta", unsupported=frozenset({"histogram"}))
TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c"}


def with_exemplar(name: str) -> bytes:
    """A 2.0 request of one sample with an exemplar."""
    request = Request2()
    bound = {"le": "+Inf"} if name.endswith("_bucket") else {}
    series = request.series({"__name__": name, **bound}, (1.0, T0_MS))
    request.exemplar(series, TRACE, 0.5, T0_MS)
    return request.body


def exemplars(made: Rig) -> tuple[int, int, int]:
    """Exemplars that came, left with a point, and were dropped."""
    statistics = made.engine.statistics().exemplars
    assert statistics.waiting == 0
    return statistics.received, statistics.sent, statistics.dropped


def leave(made: Rig, tick: float) -> None:
    """Let everything leave that is due."""
    while (due := made.engine.next_due()) is not None and due <= tick:
        made.due(tick)


@pytest.mark.parametrize("wait_s", [0.0, 1.5])
@pytest.mark.parametrize(
    ("options", "name", "kind"),
    [
        ((DELTA,), "c_total", "counter"),
        ((PLAIN, DELTA), "c_total", "counter"),
        ((PLAIN, DELTA), "c_total", "gauge"),
        ((PLAIN,), "c_total", "counter"),
        ((PLAIN, NO_HISTOGRAMS), "h_bucket", "histogram"),
    ],
)
def test_an_exemplar_counts_once_whatever_its_sinks_take(
    options: tuple[OutputOptions, ...], name: str, kind: str, wait_s: float
) -> None:
    made = Rig(Limits(), first_sight_s=wait_s)
    made.export(*(RigSink(f"s{n}", limit=100, options=one) for n, one in enumerate(options)))
    family = name.removesuffix("_bucket")
    if not wait_s:
        made.feed(write(types={family: kind}))
    made.feed(with_exemplar(name), protocol="remote_write_v2")
    made.feed(write(types={family: kind}), tick=0.5)
    leave(made, 60.0)
    made.flush()
    held = [point for sink in made.sinks for point in sink.any_points() if point.exemplars]
    assert exemplars(made) == (1, bool(held), not held)


def test_an_exemplar_that_waited_for_a_source_that_is_gone_is_dropped() -> None:
    made = Rig(Limits(), first_sight_s=1.5)
    made.export(RigSink("s", limit=100))
    made.feed(with_exemplar("c_total"), protocol="remote_write_v2")
    made.engine.replace_exporter("x", [])
    leave(made, 60.0)
    assert exemplars(made) == (1, 0, 1)
