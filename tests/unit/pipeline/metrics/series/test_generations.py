"""A series has a generation of zero or more exactly while it is in the table."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.decoders import RemoteWriteV1
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import EPOCHS
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath
from tests.kit.engine_rig import NUMBERS, Rig, RigSink
from tests.kit.remote_write import raw

T = raw.T0_MS
ORIGINS = [ANYWHERE, IngestPath(7, 0)]
HUGE = [(b"__name__", b"up"), (b"x", b"v" * 200)]


def labels_of(number: int) -> raw.Labels:
    """Return the labels of a series: usual ones, an info series, faulty ones, or too many bytes."""
    pairs = [(b"__name__", b"up"), (b"n", b"%d" % number)]
    if number % 11 == 1:
        return [*pairs, pairs[1]]
    if number % 11 == 2:
        return [*pairs, *[(b"p%d" % n, b"") for n in range(9)]]
    if number % 11 == 3:
        return [*HUGE, pairs[1]]
    if number % 11 == 4:
        return [(b"__name__", b"kube_pod_labels"), (b"namespace", b"n"), (b"pod", b"%d" % number)]
    return pairs


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_a_series_has_a_generation_exactly_while_it_is_in_the_table(seed: int) -> None:
    """Whatever made it, outdated it, or took it out; for the others the generation is below 0."""
    random = Random(seed)
    rig = Rig(Limits(series_max=24, series_bytes_max=150, labels_max=6, series_idle_s=EPOCHS))
    rig.export(RigSink("s", limit=10_000, options=NUMBERS))
    table, tick = rig.engine.table, 0.0
    met: dict[Series, bytes] = {}
    forgotten = 0
    for step in range(60):
        if random.random() < 0.7:
            first = random.randrange(40)
            chosen = list(range(first, first + random.randrange(1, 16)))
            if random.random() < 0.5:
                random.shuffle(chosen)
            body = b"".join(
                raw.series(labels_of(n), *[(1.0, T + step)] * random.choice([1, 1, 1, 2]))
                for n in chosen
            )
            rig.feed(body, tick=tick, origin=random.choice(ORIGINS))
        elif random.random() < 0.4:
            table.invalidate()
        elif random.random() < 0.4:
            table.outdate(random.sample(list(table.kept()), min(table.active, 3)))
        elif random.random() < 0.3:
            table.forget_share("", 2)
        else:
            tick += 0.5
            rig.due(tick)
        met.update((series, series.key) for series in table.kept() if series not in met)
        for series, key in met.items():
            is_there = table.look(ORIGINS[series.scope], key) is series
            assert is_there == (series.generation >= 0)
            forgotten += not is_there
        assert sum(series.generation >= 0 for series in met) == table.active
    assert forgotten


def test_a_series_out_of_the_table_is_looked_up_by_its_key() -> None:
    rig = Rig(Limits(series_bytes_max=100))
    body = raw.series(labels_of(5), (1.0, T))
    rig.feed(body)
    (kept,) = rig.engine.table.kept()
    lookup = rig.engine.lookup
    lookup.begin(body, RemoteWriteV1(), ANYWHERE)
    assert lookup.known(Series(kept.key)) is kept
    assert lookup.known(kept) is kept
    assert kept.is_known
    refused = lookup.get(raw.labels(HUGE))
    assert (refused.fault, refused.generation) == ("too_large", -1)
    assert lookup.known(refused) is refused
    assert [*rig.engine.table.kept()] == [kept]
    lookup.end()
