"""A preview counts what a router would route, for any exporter and any series, slice by slice."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control.explain import written
from relay.control.preview.preview import Preview, PreviewProgress
from relay.control.preview.result import PreviewResult
from relay.control.preview.scan import FIRST_MAX
from relay.control.time_slicing import Turns
from relay.pipeline.routing.router import Router
from relay.pipeline.routing.tenancy import (
    ACCOUNT_LABELS,
    ANYWHERE,
    MULTITENANT,
    IngestPath,
    Tenancy,
)
from relay.selector.matchers import Matcher, Selector
from relay.selector.named_views import NamedViews
from tests.kit.engine_rig import Rig
from tests.kit.remote_write import raw

TENANCY = Tenancy("tenant", {(1, 0): "acme", (2, 0): "other"})
NAMES = ("up", "http_requests_total", "node_cpu", "ünits")
LABELS = ("job", "code", "tenant", "vm_account_id", "zone")
VALUES = ("", "a", "ab", "acme", "other", "1", "2")

matchers = st.builds(
    Matcher,
    st.sampled_from(("__name__", *LABELS)),
    st.sampled_from(("=", "!=", "=~", "!~")),
    st.sampled_from((*VALUES, *NAMES, "a.*", "up|node_.*", ".+", "(a|b)?")),
)
selectors = st.builds(
    Selector, st.lists(st.lists(matchers, max_size=3).map(tuple), max_size=3).map(tuple)
)
series = st.fixed_dictionaries(
    {"__name__": st.sampled_from(NAMES)},
    optional={label: st.sampled_from(VALUES[1:]) for label in LABELS},
)
tables = st.lists(
    st.tuples(st.sampled_from((ANYWHERE, MULTITENANT, IngestPath("acme"))), series), max_size=30
)
SINK = Sink("otlp", (), OtlpHttp("https://otlp.example.com/v1/metrics"))


def exporter(name: str, project: str, chosen: list[Selector]) -> Exporter:
    sources = tuple(Source(f"s{number}", "", one) for number, one in enumerate(chosen))
    return Exporter(project, "default", name, sources, (SINK,))


def preview(rig: Rig, new: Exporter, old: Exporter | None) -> PreviewResult:
    async def run() -> PreviewResult:
        events = [event async for event in Preview(rig.engine, Turns(), new, old).count()]
        assert isinstance(events[0], PreviewProgress)
        result = events[-1]
        assert isinstance(result, PreviewResult)
        return result

    return asyncio.run(run())


def routed(
    table: list[tuple[IngestPath, dict[str, str]]], version: Exporter, tenancy: Tenancy
) -> list[tuple[dict[str, str], frozenset[str]]]:
    """Each distinct series that the project may see, and the sources that a router finds."""
    router = Router(tenancy=tenancy)
    sources = [(source.name, source.selector, ()) for source in version.sources]
    router.add(version.id, version.project, sources)
    found = []
    distinct = {(origin, tuple(sorted(labels.items()))) for origin, labels in table}
    for origin, pairs in sorted(distinct, key=repr):
        labels = dict(pairs)
        if tenancy.project_of(labels, origin) != version.project:
            continue
        if origin.by_labels:
            labels = {name: text for name, text in labels.items() if name not in ACCOUNT_LABELS}
        taken = router.subscribers(NamedViews((labels,)), version.project)
        found.append((labels, frozenset(one.source for one in taken)))
    return found


@settings(max_examples=150, deadline=None)
@given(
    tables,
    st.lists(selectors, min_size=1, max_size=4),
    st.none() | st.lists(selectors, min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_counts_equal_the_router(
    table: list[tuple[IngestPath, dict[str, str]]],
    chosen: list[Selector],
    stored: list[Selector] | None,
    has_tenancy: bool,
    runs: bool,
) -> None:
    tenancy = TENANCY if has_tenancy else Tenancy()
    if not has_tenancy:
        table = [(ANYWHERE, labels) for _, labels in table]
    project = "acme" if has_tenancy else ""
    rig = Rig(tenancy=tenancy)
    new = exporter("x", project, chosen)
    old = exporter("x", project, stored) if stored is not None else None
    if old is not None and runs:
        sources = [(source.name, source.selector, ()) for source in old.sources]
        rig.engine.add_exporter(old.id, project, sources)
    for origin, labels in table:
        rig.feed(raw.text_series(dict(sorted(labels.items())), (1.0, 10**12)), origin=origin)

    result = preview(rig, new, old)

    expected = routed(table, new, tenancy)
    assert result.project_series == len(expected)
    by_source = Counter(name for _, names in expected for name in names)
    assert {name: one.series for name, one in result.sources} == {
        source.name: by_source[source.name] for source in new.sources
    }
    assert result.total.series == sum(bool(names) for _, names in expected)
    for name, one in result.sources:
        metrics = Counter(labels["__name__"] for labels, names in expected if name in names)
        assert {top.name: top.series for top in one.top} == metrics
        matching = sorted(written(labels) for labels, names in expected if name in names)
        if len(matching) <= FIRST_MAX:
            assert sorted(one.first) == matching
        else:
            assert len(one.first) == FIRST_MAX == len(set(one.first) & set(matching))
    if old is None:
        assert (result.added, result.removed) == (None, None)
        return
    before = routed(table, old, tenancy)
    pairs = list(zip(expected, before, strict=True))
    added = [labels for (labels, now), (_, then) in pairs if now and not then]
    removed = [labels for (labels, now), (_, then) in pairs if then and not now]
    assert result.added is not None
    assert result.removed is not None
    assert (result.added.series, result.removed.series) == (len(added), len(removed))
    if len(added) <= FIRST_MAX:
        assert sorted(result.added.first) == sorted(map(written, added))
    if len(removed) <= FIRST_MAX:
        assert sorted(result.removed.first) == sorted(map(written, removed))


def test_a_key_in_an_odd_encoding_counts_like_any_other() -> None:
    rig = Rig()
    pairs = ((b"__name__", b"up"), (b"job", b"a"))
    usual = raw.series(pairs, (1.0, 10**12))
    odd = raw.message(
        1,
        b"".join(
            raw.message(1, raw.message(1, name) + raw.message(2, text), length_size=3)
            for name, text in pairs
        )
        + raw.sample(raw.bits_of(1.0), 10**12),
    )
    rig.feed(usual + odd)
    assert rig.engine.table.active == 2
    wanted = Selector(((Matcher("job", "=", "a"),),))
    assert preview(rig, exporter("x", "", [wanted]), None).total.series == 2
