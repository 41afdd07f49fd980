"""Measure resource selectors with and without a table of kinds: ``python -m bench.micro.kinds``.

10,000 exporters of 2,000 projects select resources by kind in a namespace; each new series has two
matches. With a table, 50 rows recognise by prefix, by label and by value, and the last that fits
decides. Prints figures; times are CPU seconds, the best of interleaved runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

from bench.micro.selection import (
    EXPORTERS,
    PROJECT_LABEL,
    PROJECTS,
    SERIES_PER_REQUEST,
    bodies,
    exporter_name,
    ingest_s,
    platform_series,
    project_of,
)
from relay.codec.otlp.batch import OpenBatch
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.tenancy import Tenancy
from relay.runtime import gc_pacing
from relay.selector.matchers import NAME
from relay.selector.resources.compiler import Compiler
from relay.selector.resources.kind_table import KindTable
from relay.selector.resources.label_selector import (
    Conventions,
    KindMarks,
    KindRow,
    KindSelector,
    LabelSelector,
    ResourceSelection,
    ResourceSelector,
)

ROWS = 50
SERIES = 20_000
RUNS = 7

_KINDS = tuple(f"service-{number}" for number in range(7))


def table() -> tuple[KindRow, ...]:
    """Return 50 rows; those of the seven kinds that series have are the last ones."""
    others = (
        KindMarks(metric_prefix="other_platform_"),
        KindMarks(label="other_label"),
        KindMarks(labels=(("resource_kind", "other"),)),
        KindMarks(metric_prefix="network_", label="gateway_name"),
    )
    rows = [
        KindRow(f"Other{number}", group="other", marks=_numbered(others[number % 4], number))
        for number in range(ROWS - len(_KINDS))
    ]
    rows += [
        KindRow(
            kind, marks=KindMarks(labels=(("service_name", kind),)), namespace_label="namespace"
        )
        for kind in _KINDS
    ]
    return tuple(rows)


def _numbered(marks: KindMarks, number: int) -> KindMarks:
    label = f"{marks.label}_{number}" if marks.label else ""
    labels = tuple((name, f"{value}-{number}") for name, value in marks.labels)
    return KindMarks(
        f"{marks.metric_prefix}{number}_" if marks.metric_prefix else "", label, labels
    )


def selection_of(number: int) -> ResourceSelection:
    """Return a selection of one kind; of a project's five exporters two have the same kind."""
    kind = _KINDS[number // PROJECTS % 5 // 2]
    every = LabelSelector() if number % 3 == 0 else None
    selector = ResourceSelector(every, LabelSelector(), (KindSelector(kinds=(kind,)),))
    return ResourceSelection(project_of(number), (selector,))


def engine_with(conventions: Conventions) -> MetricsPipeline:
    """Return an engine with all exporters."""
    engine = MetricsPipeline(tenancy=Tenancy(PROJECT_LABEL), compiler=Compiler(conventions))
    for number in range(EXPORTERS):
        name = exporter_name(number)
        target = SinkOutputSpec(SinkCounter(name, "sink"), (OpenBatch(None, limit=500),))
        engine.add_exporter(name, project_of(number), [("source", selection_of(number), (target,))])
    return engine


def matched_twice(engine: MetricsPipeline) -> list[dict[str, str]]:
    """Return new series with two matches."""
    series = []
    for number in range(1_400_000):
        labels = platform_series(number)
        if len(engine.router.match(labels, labels[PROJECT_LABEL])[1]) == 2:
            series.append(labels)
        if len(series) == SERIES:
            break
    assert len(series) == SERIES
    return series


def new_series(tables: Mapping[str, Conventions]) -> None:
    """Measure new series with two matches, by table."""
    best = dict.fromkeys(tables, float("inf"))
    for _ in range(RUNS):
        for name, conventions in tables.items():
            engine = engine_with(conventions)
            for body in bodies(iter(matched_twice(engine))):
                best[name] = min(best[name], ingest_s(engine, body) / SERIES_PER_REQUEST)
    for name, spent in best.items():
        print(f"new series, 2 matches by resource, {name}: {spent * 1e6:.2f} us")


def lookup(conventions: Conventions) -> None:
    """Measure the table alone."""
    asked = [{**platform_series(number), NAME: "network_bytes"} for number in range(1_000)]
    found = KindTable(conventions)
    best = float("inf")
    for _ in range(50):
        start = time.process_time()
        for labels in asked:
            found.row_of(labels)
        best = min(best, (time.process_time() - start) / len(asked))
    print(f"a table of {ROWS} rows alone: {best * 1e6:.2f} us a series")


def main(arguments: Sequence[str]) -> int:
    """Run; return 2 for arguments, which there are none of."""
    if arguments:
        print("takes no arguments", file=sys.stderr)
        return 2
    gc_pacing.configure_gc()
    rows = Conventions(namespace_label="namespace", kinds=table())
    new_series({"no table": Conventions(namespace_label="namespace"), f"{ROWS} rows": rows})
    lookup(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
