"""What ended routes leave behind: nothing that only the cyclic GC would free.

The relay freezes what survives a large change, and frozen objects are never looked at again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from relay.pipeline.routing.match_set import MatchedSource, MatchSet, SourceCounter
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.matchers import Matcher, Selector
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw

KINDS = (MatchSet, MatchedSource, SourceCounter)
ROUNDS = 20


@contextmanager
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> int:
    """Count what routing has of sources."""
    return sum(isinstance(one, KINDS) for one in gc.get_objects())


def series(number: int, project: bytes) -> bytes:
    labels = [(b"__name__", b"up"), (b"n", b"%d" % number), (b"tenant", project)]
    return raw.series(labels, (1.0, raw.T0_MS + number))


def run_round(rig: Rig, number: int, project: str) -> None:
    """Export to a sink that comes, gets a series, and goes."""
    rig.export(RigSink("s", limit=10, exporter="x"), exporter="x", project=project)
    rig.feed(series(number, project.encode()))
    rig.flush()
    rig.engine.remove_exporter("x")
    rig.feed(series(number, project.encode()))
    rig.engine.router.flush_counters()
    rig.engine.router.forget_counters("x")
    rig.sinks.clear()


def test_an_exporter_of_a_project_that_has_others() -> None:
    rig = Rig(tenancy=Tenancy("tenant"))
    rig.export(RigSink("t", limit=10, exporter="y"), exporter="y", project="acme")
    for number in range(2):
        run_round(rig, number, "acme")
    with no_gc():
        before = alive()
        for number in range(2, ROUNDS):
            run_round(rig, number, "acme")
        # The log of changes remembers some sources; it is bounded.
        assert alive() - before <= 2 * (ROUNDS - 2)


def test_the_last_exporter_of_a_project() -> None:
    rig = Rig(tenancy=Tenancy("tenant"))
    for number in range(2):
        run_round(rig, number, "acme")
    with no_gc():
        before = alive()
        for number in range(2, ROUNDS):
            run_round(rig, number, "acme")
        assert alive() == before


def test_a_match_set_and_its_variants_share_what_is_equal() -> None:
    rig = Rig(first_sight_s=1.5)
    for name in ("a", "b"):
        chosen = {"all": Selector(((Matcher("of", "=", name),),))}
        rig.export(RigSink(name, limit=10, exporter=name), exporter=name, sources=chosen)
    for name in (b"a", b"b"):
        rig.feed(raw.series([(b"__name__", b"c"), (b"of", name)], (1.0, raw.T0_MS)))
    bases = [kept.match_set.base for kept in rig.engine.table.kept()]
    assert len(bases) == len(rig.sinks)
    for base, sink in zip(bases, rig.sinks, strict=True):
        (variant,) = base.variants.values()
        assert variant.handled
        assert (variant.sinks, variant.handled_sinks) == ((), (sink.counter,))
        assert variant.handled_sinks is base.sinks
        assert (variant.typed is base.typed, variant.sources is base.sources) == (True, True)
        assert not variant.variants
        base.forget_variants()
    assert not any(base.variants for base in bases)
