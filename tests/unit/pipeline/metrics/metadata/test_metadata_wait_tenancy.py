"""What waits at first sight waits for its own project, and nobody else's words or flood."""

from __future__ import annotations

import pytest

from relay.control.durability.learned_state import decode_knowledge, encode_knowledge
from relay.pipeline.limits import Limits
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath, Tenancy
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write.sample_writes import T0_MS, write
from tests.kit.remote_write.symbolic import Request2

TENANCY = Tenancy(accounts={(1, 0): "acme", (2, 0): "zeta"})
ACME, ZETA = IngestPath("acme"), IngestPath("zeta")
COUNTER, GAUGE, UNKNOWN = 1, 2, 0
Metadata = tuple[int, str, str]


def waiting_tenants_rig(limits: Limits | None = None) -> Rig:
    """A rig with a sink for each of two projects, in which families wait for 1.5 s."""
    made = Rig(limits, tenancy=TENANCY, first_sight_s=1.5)
    for project in ("acme", "zeta"):
        made.export(
            RigSink("s", limit=1000, exporter=f"{project}/x"),
            exporter=f"{project}/x",
            project=project,
        )
    return made


def left(made: Rig) -> tuple[list[AnyPoint], list[AnyPoint]]:
    """What has left so far for each of the two."""
    made.flush()
    acme, zeta = (sink.any_points() for sink in made.sinks)
    return acme, zeta


def counts(made: Rig) -> tuple[int, int]:
    acme, zeta = left(made)
    return len(acme), len(zeta)


def declared(value: float, metadata: Metadata | None, at_ms: int = T0_MS) -> bytes:
    request = Request2()
    series = request.series({"__name__": "c"}, metadata=metadata)
    series.samples.add(value=value, timestamp=at_ms)
    return request.body


def test_metadata_of_one_project_releases_its_own_families_only() -> None:
    made = waiting_tenants_rig()
    for origin in (ACME, ZETA):
        made.feed(write("c 1"), origin=origin)
    made.feed(write(types={"c": "counter"}), tick=0.5, origin=ACME)
    assert counts(made) == (1, 0)
    made.due(1.5)
    acme, zeta = left(made)
    assert [point.identity.kind for point in (*acme, *zeta)] == ["sum", "gauge"]


def test_metadata_of_the_platform_releases_those_of_all() -> None:
    made = waiting_tenants_rig()
    for origin in (ACME, ZETA):
        made.feed(write("c 1"), origin=origin)
    made.feed(write(types={"c": "counter"}), tick=0.5, origin=ANYWHERE)
    acme, zeta = left(made)
    assert [point.identity.kind for point in (*acme, *zeta)] == ["sum", "sum"]


def test_a_family_that_one_project_settled_still_waits_in_another() -> None:
    made = waiting_tenants_rig()
    made.feed(write("c 1"), origin=ACME)
    made.due(1.5)
    knowledge = decode_knowledge(encode_knowledge(made.engine.export_metadata()))
    assert knowledge is not None
    assert knowledge.settled == [("acme", "c")]
    again = waiting_tenants_rig()
    again.engine.import_metadata(knowledge)
    for each in (made, again):
        before = counts(each)
        for origin in (ACME, ZETA):
            each.feed(write('c{x="y"} 1'), tick=2.0, origin=origin)
        assert counts(each) == (before[0] + 1, before[1])


def test_a_series_that_declares_its_type_never_waits() -> None:
    made = waiting_tenants_rig()
    made.feed(declared(1, (COUNTER, "", "")), origin=ACME, protocol="remote_write_v2")
    assert counts(made) == (1, 0)
    made.feed(declared(1, (UNKNOWN, "words", "")), origin=ZETA, protocol="remote_write_v2")
    assert counts(made) == (1, 0), "words alone are no type"


@pytest.mark.parametrize("has_sibling", [False, True])
def test_what_a_series_declares_while_it_waits_holds_for_all_its_samples(has_sibling: bool) -> None:
    made = waiting_tenants_rig()
    made.feed(declared(1, None), origin=ACME, protocol="remote_write_v2")
    if has_sibling:
        made.feed(write('c{x="y"} 7'), tick=0.1, origin=ACME)
    made.feed(
        declared(2, (COUNTER, "", ""), T0_MS + 1), tick=0.5, origin=ACME, protocol="remote_write_v2"
    )
    made.feed(declared(3, None, T0_MS + 2), tick=0.6, origin=ACME, protocol="remote_write_v2")
    acme, _ = left(made)
    own = [point for point in acme if not point.attributes]
    assert [point.value for point in own] == [1.0, 2.0, 3.0]
    assert {point.identity.kind for point in own} == {"sum"}


def test_a_flood_of_one_project_takes_nobodys_wait_nor_what_is_settled() -> None:
    made = waiting_tenants_rig(Limits(histograms_max=20))
    made.feed(write("mine 1"), origin=ZETA)
    made.due(1.5)
    assert counts(made) == (0, 1)
    for batch in range(20):
        tick = 2.0 + 2 * batch
        made.feed(write(*(f"flood{batch}x{n} 1" for n in range(40))), tick=tick, origin=ACME)
        made.feed(write(f"new{batch} 1"), tick=tick, origin=ZETA)
        # Beyond its even share, its own ones go.
        assert batch > 8 or ("zeta", "mine") in made.engine.first_sight.settled()
        waiting = {key[0] for key in made.engine.first_sight._families}
        assert waiting == {"acme", "zeta"}
        made.due(tick + 1.6)
    settled = made.engine.first_sight.settled()
    assert len(settled) <= 20
    assert sum(project == "zeta" for project, _ in settled) >= 9
    assert counts(made) == (20 * 40, 21), "nothing is dropped"


def test_whose_family_gives_way_leaves_early_and_whole() -> None:
    made = waiting_tenants_rig(Limits(histograms_max=4))
    made.feed(write("a 1", "b 1", "c 1", "d 1"), origin=ACME)
    made.feed(write("e 1"), tick=0.1, origin=ZETA)
    made.due(0.2)
    assert counts(made) == (1, 0)
    assert made.engine.statistics().first_sight.early == 1
    made.due(2.0)
    assert counts(made) == (4, 1)
