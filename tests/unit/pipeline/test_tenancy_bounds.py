"""What one project floods costs only itself, in every table that is bounded."""

from __future__ import annotations

from relay.codec.otlp.data_points import Exemplar, NumberPoint
from relay.pipeline.limits import Limits
from relay.pipeline.metrics.exemplars import ExemplarBuffer
from relay.pipeline.metrics.temporality.delta import DeltaStore
from relay.pipeline.routing.tenancy import IngestPath, Tenancy
from relay.runtime.project_shares import UNCLAIMED, ProjectPart, SharedTable, Shares
from relay.selector.inventory.info_series import InfoSeriesClaim, StreamKey
from relay.selector.inventory.store import Inventory, ManifestIndex, Object
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write import raw

TENANCY = Tenancy(accounts={(1, 0): "acme", (2, 0): "zeta"})
ACME, ZETA = IngestPath("acme"), IngestPath("zeta")
T = raw.T0_MS


def test_while_there_is_room_anybody_takes_it() -> None:
    shares = Shares(10)
    for _ in range(10):
        assert shares.must_evict("acme") is None
        shares.add("acme")
    assert shares.must_evict("acme") == "acme"
    assert shares.must_evict("zeta") == "acme"


def test_who_has_an_even_share_gives_up_its_own() -> None:
    shares = Shares(10)
    shares.add("acme", 6)
    shares.add("zeta", 4)
    assert shares.must_evict("zeta") == "acme"
    shares.remove("acme")
    shares.add("zeta")
    assert shares.must_evict("zeta") == "zeta"
    assert shares.must_evict("acme") == "acme"
    assert shares.must_evict("third") in ("acme", "zeta")


def test_more_projects_than_entries() -> None:
    shares = Shares(2)
    shares.add("a")
    shares.add("b")
    assert shares.must_evict("c") in ("a", "b")
    assert shares.must_evict("a") == "a"


def test_the_one_with_most_too_much_need_not_be_found_for_each_entry_anew() -> None:
    shares = Shares(1_000)
    for n in range(10):
        shares.add(f"p{n}", 100)
    for _ in range(90):
        share = shares.must_evict("new")
        assert share is not None
        assert share != "new"
        shares.remove(share)
        shares.add("new")
    assert min(shares.used(f"p{n}") for n in range(10)) >= 90
    assert shares.total == 1_000


def test_what_was_not_in_use_since_the_last_turn_goes_first() -> None:
    gone: list[int] = []
    table: SharedTable[str, int] = SharedTable(3, forgets=gone.append)
    part = table.part("acme")
    for n, key in enumerate("abc"):
        table.add(part, key, n)
    table.add(part, "d", 3)
    assert gone == [0]
    for key in "bd":
        part.touch(key)
    table.add(part, "e", 4)
    table.add(part, "f", 5)
    assert gone[1] == 2, "the only one that was not in use"
    assert len(table) == 3 == len(part)
    table.age()
    table.age()
    assert len(table) == 0
    assert table.forgotten == len(gone) == 6


def test_parts_of_made_up_projects_share_one_share_and_leave_nothing() -> None:
    table: SharedTable[str, int] = SharedTable(4)
    for n in range(100):
        table.add(table.part(f"made-up{n}", claimed=False), "k", n)
    assert len(list(table.parts())) == 4
    acme = table.part("acme")
    for key in "ab":
        table.add(acme, key, 1)
    for n in range(100):
        table.add(table.part(f"more{n}", claimed=False), "k", n)
    assert len(acme) == 2
    claimed = table.part("more99")
    assert claimed.share == "more99"
    assert claimed.find("k") == 99
    assert ProjectPart("x", UNCLAIMED).find("k") is None


def test_objects_of_one_project_turn_out_none_of_another() -> None:
    inventory = Inventory(objects_max=20)
    inventory.claim("acme")
    inventory.claim("zeta")
    for name in ("a", "b"):
        key = StreamKey("acme", "namespace", "", name)
        inventory.apply_info_series(InfoSeriesClaim(key, {"team": name}), begins=True)
    for project in ("zeta", "made-up"):
        for n in range(1_000):
            key = StreamKey(project, "namespace", "", f"n{n}")
            inventory.apply_info_series(InfoSeriesClaim(key, {"team": "x"}), begins=True)
    assert inventory.statistics().from_stream == 20
    for name in ("a", "b"):
        labels = inventory.namespace("acme", name)
        assert labels is not None
        assert labels.labels == {"team": name}


def test_who_asks_for_too_much_makes_no_change_of_another_count() -> None:
    inventory = Inventory(asked_max=100)
    assert inventory.namespace("acme", "a") is None
    for n in range(1_000):
        assert inventory.namespace("zeta", f"n{n}") is None
    assert inventory.statistics().asked == 1

    def change(project: str, name: str, team: str) -> set[str]:
        """The same thing said of one object by a manifest, and by the stream."""
        one = Object(project, "", "Namespace", "", name, f"uid-{name}", {"team": team})
        index = ManifestIndex([one])
        inventory.replace_manifests(index)
        told = inventory.take_changed()
        inventory.replace_manifests(ManifestIndex())
        inventory.take_changed()
        inventory.apply_info_series(InfoSeriesClaim(one.key, {"team": team}), begins=True)
        assert inventory.take_changed() == told
        return told

    assert change("acme", "never-asked", "x") == set()
    assert change("acme", "a", "x") == {"acme"}
    assert change("zeta", "n1", "x") == {"zeta"}
    assert change("zeta", "never-asked", "x") == {"zeta"}, "it asked for too much to remember"
    assert change("third", "n1", "x") == set()


def test_deltas_of_one_project_turn_out_none_of_another() -> None:
    store = DeltaStore(states_max=100)
    ours = [store.delta("acme", n, "sum") for n in range(10)]
    for at, value in ((1, b"\0" * 8), (3, b"\0\0\0\0\0\0\xf0\x3f")):
        made = [state.step(NumberPoint(at, value)) for state in ours if state is not None]
        if at == 1:
            for n in range(10_000):
                other = store.delta("zeta", n, "sum")
                assert other is not None
                other.step(NumberPoint(1, value))
    assert len(made) == 10
    assert None not in made
    assert store.statistics().states == 100


def bounded_rig(**limits: int) -> Rig:
    made = Rig(Limits(**limits), tenancy=TENANCY)  # type: ignore[arg-type]
    for project in ("acme", "zeta"):
        exporter = f"{project}/x"
        made.export(
            RigSink("s", limit=100_000, exporter=exporter), exporter=exporter, project=project
        )
    return made


def got(made: Rig, sink: int = 0) -> list[AnyPoint]:
    made.flush()
    return made.sinks[sink].any_points()


def member(family: bytes, suffix: bytes, value: float, at: int, *bound: bytes) -> bytes:
    labels = [(b"__name__", family + suffix), (b"job", b"j"), *((b"le", one) for one in bound)]
    return raw.series(labels, (value, T + at))


def test_series_of_one_project_turn_out_none_of_another() -> None:
    made = bounded_rig(series_max=1_000)
    ours = [[(b"__name__", b"m"), (b"n", b"%d" % n)] for n in range(300)]
    for at in range(2):
        made.feed(b"".join(raw.series(each, (1.0, T + at)) for each in ours), origin=ACME)
    for n in range(0, 5_000, 500):
        body = b"".join(
            raw.series([(b"__name__", b"f"), (b"n", b"%d" % (n + more))], (1.0, T))
            for more in range(500)
        )
        for _ in range(2):  # those of the second time are as well known as any other
            made.feed(body, origin=ZETA)
    created = made.engine.statistics().table.created
    assert made.engine.statistics().table.forgotten_full > 4_000
    made.feed(b"".join(raw.series(each, (1.0, T + 5)) for each in ours), origin=ACME)
    assert made.engine.statistics().table.created == created, "all were known"


def test_metrics_of_one_project_part_none_of_another() -> None:
    """A series that comes late stands in the same metric of a request as those before it."""
    made = bounded_rig(series_max=1_000)
    early, late = ([(b"__name__", b"m"), (b"n", n)] for n in (b"0", b"1"))
    made.feed(raw.series(early, (1.0, T)), origin=ACME)
    for n in range(5_000):
        made.feed(raw.series([(b"__name__", b"f%d" % n)], (1.0, T)), origin=ZETA)
        if n % 500 == 499:
            made.flush()
            made.sinks[1].forget()
    made.feed(raw.series(late, (1.0, T)), origin=ACME)
    series = [made.engine.table.look(ACME, raw.labels(pairs)) for pairs in (early, late)]
    groups = [each.routes[0][1] for each in series if each is not None]
    assert groups[0] is groups[1]
    # What batches have, and series, and as much that nobody has.
    assert made.engine.statistics().translator.metrics <= 500 + 1_000 + 1_000


def test_histograms_of_one_project_send_none_of_another_away() -> None:
    made = bounded_rig(histograms_max=20, series_max=100_000)
    made.feed(
        raw.metadata("h", 3) + member(b"h", b"_bucket", 1.0, 0, b"+Inf"), origin=ACME, tick=0.0
    )
    for n in range(200):
        name = b"f%d" % n
        made.feed(member(name, b"_bucket", 1.0, 0, b"+Inf"), origin=ZETA, tick=0.1)
    assert made.engine.statistics().assembly.families <= 20
    made.feed(
        member(b"h", b"_count", 1.0, 0) + member(b"h", b"_sum", 5.0, 0), origin=ACME, tick=0.2
    )
    made.due(11.0)
    (point,) = got(made)
    assert point.identity.kind == "histogram"
    assert point.data[0] == 1
    assert point.data[1] is not None


def test_waiting_samples_of_one_project_send_none_of_another_away() -> None:
    # The bound follows that of the series, and is 1,000 at the least.
    made = bounded_rig(series_max=1_000, histograms_max=100_000)
    made.feed(member(b"h", b"_bucket", 1.0, 0, b"+Inf"), origin=ACME, tick=0.0)
    for at in range(30):
        body = b"".join(member(b"f%d" % n, b"_bucket", 1.0, at, b"+Inf") for n in range(100))
        made.feed(body, origin=ZETA, tick=0.1)
    waiting = made.engine.statistics().assembly.waiting_samples
    assert waiting <= 1_000 + 64
    made.feed(member(b"h", b"_sum", 5.0, 0), origin=ACME, tick=0.2)
    made.feed(member(b"h", b"_count", 1.0, 0), origin=ACME, tick=0.2)
    made.due(11.0)
    points = [point for point in got(made) if point.identity.kind == "histogram"]
    assert [point.data[1] is not None for point in points] == [True]


def test_exemplars_of_one_project_send_none_of_another_away() -> None:
    made = bounded_rig()
    exemplar_buffer = made.engine.exemplar_buffer = ExemplarBuffer(exemplars_max=20)
    ours = [(b"__name__", b"m"), (b"job", b"ours")]
    made.feed(raw.series(ours, (1.0, T)), origin=ACME)
    exemplar = Exemplar(T * 1_000_000, 1.0)
    table = made.engine.table
    series = table.look(ACME, raw.labels(ours))
    assert series is not None
    exemplar_buffer.add(series, (exemplar, exemplar))
    for n in range(100):
        pairs = [(b"__name__", b"m"), (b"job", b"%d" % n)]
        made.feed(raw.series(pairs, (1.0, T)), origin=ZETA)
        other = table.look(ZETA, raw.labels(pairs))
        assert other is not None
        exemplar_buffer.add(other, (exemplar,))
    assert exemplar_buffer.statistics().waiting == 20
    made.feed(raw.series(ours, (2.0, T + 1)), origin=ACME)
    assert [len(point.exemplars) for point in got(made)] == [0, 2]
