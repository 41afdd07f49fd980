"""Metadata for sinks that get series as they came: when it is due, and whose it is."""

from __future__ import annotations

import pytest

from relay.pipeline.metrics.raw import metadata as raw_metadata
from relay.pipeline.metrics.raw.metadata import REPEAT_S
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import IngestPath, Tenancy
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink, named
from tests.kit.remote_write import raw
from tests.kit.remote_write.raw import T0_MS
from tests.kit.remote_write.symbolic import Request2

UP = [(b"__name__", b"up")]
GAUGE = raw.metadata("up", 2, "is it up")


def rig_of(*options: OutputOptions) -> Rig:
    """An engine with one exporter of a sink for each of these options."""
    rig = Rig()
    rig.export(*[RigSink(f"s{n}", limit=100, options=one) for n, one in enumerate(options)])
    return rig


def up(at: int) -> bytes:
    """A sample of ``up``."""
    return raw.series(UP, (1.0, T0_MS + at))


def families(rig: Rig, sink: int = 0) -> dict[str, tuple[int, str, str]]:
    """The metadata that left since the last call."""
    rig.flush()
    found = rig.sinks[sink].as_sent().families
    rig.sinks[sink].forget()
    return found


def told(rig: Rig, sink: int = 0) -> list[tuple[int, str, str]]:
    """The metadata beside the one series that left since the last call."""
    rig.flush()
    (series,) = rig.sinks[sink].as_sent().series.values()
    rig.sinks[sink].forget()
    return series.metadata


def test_it_is_due_at_the_first_series_and_when_it_changes() -> None:
    rig = rig_of(RAW1)
    rig.feed(GAUGE + up(0))
    assert families(rig) == {"up": (2, "is it up", "")}
    rig.feed(GAUGE + up(1), tick=1.0)
    assert families(rig) == {}
    rig.feed(raw.metadata("up", 2, "is it up", "seconds") + up(2), tick=2.0)
    assert families(rig) == {"up": (2, "is it up", "seconds")}


def test_it_comes_behind_the_samples() -> None:
    rig = rig_of(RAW1)
    rig.feed(up(0))
    assert families(rig) == {}
    rig.feed(GAUGE, tick=1.0)
    rig.feed(up(1), tick=2.0)
    assert families(rig) == {"up": (2, "is it up", "")}


def test_it_never_leaves_alone() -> None:
    rig = rig_of(RAW1)
    rig.feed(up(0))
    rig.flush()
    rig.sinks[0].forget()
    rig.feed(GAUGE, tick=1.0)
    rig.flush()
    assert rig.sinks[0].sealed == []
    assert rig.engine.offsets.statistics().holds == 1  # of the first batch


def test_it_is_repeated() -> None:
    rig = rig_of(RAW1)
    rig.feed(GAUGE + up(0))
    rig.feed(up(1), tick=1.0)
    families(rig)
    rig.feed(up(2), tick=REPEAT_S)
    assert families(rig) == {}
    rig.feed(up(3), tick=REPEAT_S + 1.0)
    assert families(rig) == {"up": (2, "is it up", "")}
    rig.feed(up(4), tick=REPEAT_S + 2.0)
    assert families(rig) == {}


def test_members_of_a_family_bring_its_metadata_and_others_do_not() -> None:
    rig = rig_of(RAW1)
    body = raw.metadata("h", 3, "a histogram") + raw.metadata("up", 2) + raw.metadata("x", 1)
    rig.feed(body)
    rig.feed(raw.series([(b"__name__", b"h_count")], (1.0, T0_MS)))
    rig.feed(raw.series([(b"__name__", b"up_total")], (1.0, T0_MS)))  # a gauge has no such member
    assert families(rig) == {"h": (3, "a histogram", "")}


def test_a_sink_gets_what_it_gets_series_of() -> None:
    rig = Rig()
    rig.export(RigSink("s0", limit=100, options=RAW1), sources={"up": named("up")})
    rig.export(RigSink("s1", limit=100, options=RAW1), exporter="y", sources={"x": named("x")})
    rig.feed(GAUGE + raw.metadata("x", 2, "an x"))
    rig.feed(up(0) + raw.series([(b"__name__", b"x")], (1.0, T0_MS)))
    assert families(rig, 0) == {"up": (2, "is it up", "")}
    assert families(rig, 1) == {"x": (2, "an x", "")}


def test_a_sink_may_do_without() -> None:
    rig = rig_of(OutputOptions(protocol="remoteWrite1"), OutputOptions(protocol="remoteWrite2"))
    rig.feed(GAUGE + up(0))
    assert families(rig) == {}
    assert told(rig, 1) == []


@pytest.mark.parametrize("shares", [False, True])
def test_no_project_is_told_what_another_said(*, shares: bool) -> None:
    rig = Rig(tenancy=Tenancy("", {(1, 0): "p1", (2, 0): "p2"}, shares_metadata=shares))
    for project in ("p1", "p2"):
        rig.export(
            RigSink(project, limit=10, options=RAW1),
            RigSink(project, limit=10, options=RAW2),
            exporter=project,
            project=project,
        )
    rig.feed(raw.metadata("up", 2, "of the platform"))
    rig.feed(raw.metadata("up", 2, "of p1"), origin=IngestPath("p1"))
    for project in ("p1", "p2"):
        rig.feed(up(0), origin=IngestPath(project))
    of_p2 = (2, "of the platform" if shares else "", "")
    assert families(rig, 0) == {"up": (2, "of p1", "")}
    assert told(rig, 1) == [(2, "of p1", "")]
    assert families(rig, 2) == {"up": of_p2}
    assert told(rig, 3) == [of_p2]


def test_2_0_has_it_beside_each_series() -> None:
    rig = rig_of(RAW2)
    rig.feed(up(0))
    assert told(rig) == []
    rig.feed(GAUGE, tick=1.0)
    rig.feed(up(1) + up(2), tick=2.0)
    assert told(rig) == [(2, "is it up", "")] * 2


def test_what_a_series_declares_goes_first() -> None:
    rig = rig_of(RAW2, RAW1)
    rig.feed(GAUGE)
    for at, text in enumerate(["mine", "yours"]):
        message = Request2()
        message.series({"__name__": "up"}, (1.0, T0_MS + at), metadata=(2, text, "s"))
        rig.feed(message.body, protocol="remote_write_v2", tick=float(at))
        assert told(rig) == [(2, text, "s")]
    assert families(rig, 1) == {"up": (2, "is it up", "s")}


def test_2_0_in_gives_1_0_families() -> None:
    rig = rig_of(RAW1)
    message = Request2()
    message.series({"__name__": "h_sum"}, (1.0, T0_MS), metadata=(3, "a histogram", "s"))
    rig.feed(message.body, protocol="remote_write_v2")
    assert families(rig) == {"h": (3, "a histogram", "s")}


def test_one_request_brings_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_metadata, "SEND_MAX", 3)
    rig = rig_of(RAW1)
    rig.feed(b"".join(raw.metadata(f"m{n}", 2, "help") for n in range(8)))
    body = b"".join(raw.series([(b"__name__", b"m%d" % n)], (1.0, T0_MS)) for n in range(8))
    sizes = []
    for tick in range(4):
        rig.feed(body, tick=float(tick))
        sizes.append(len(families(rig)))
    assert sizes == [3, 3, 2, 0]


def test_a_removed_sink_is_forgotten() -> None:
    rig = rig_of(RAW1)
    rig.feed(GAUGE + up(0))
    rig.feed(up(1), tick=1.0)
    metadata = rig.engine.resolver.raw.metadata
    assert metadata._sinks
    rig.engine.remove_exporter("x")
    for batch in rig.sinks[0].batches:
        batch.sink = None
    for tick in (REPEAT_S + 1.0, REPEAT_S + 2.0):
        rig.feed(up(2), tick=tick)
    assert not metadata._sinks
    assert not metadata._due
    assert all(not subject.sinks for subject in metadata._subjects.values())


def test_a_dry_run_and_a_refused_request_send_nothing() -> None:
    rig = rig_of(RAW1)
    rig.engine.dry_run(GAUGE + up(0), now=1e9)
    assert rig.sinks[0].batches[0].point_buffer.count == 0
    rig.feed(up(0))
    assert families(rig) == {"up": (2, "is it up", "")}
