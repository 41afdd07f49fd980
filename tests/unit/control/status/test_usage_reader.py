"""Readings of the counters of an exporter whose sources have several signals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from relay.control.status.usage import SourceReading
from relay.control.status.usage_reader import UsageReader
from relay.pipeline.routing.match_set import SourceCounter


class Routed:
    """Counters of the sources of one signal."""

    def __init__(self, samples: dict[str, int], series: dict[str, int] | None = None) -> None:
        self.counters = {name: SourceCounter("a", name) for name in samples}
        for name, count in samples.items():
            self.counters[name].samples = count
        self.series = series or {}

    def series_of(self, exporter: str) -> Any:
        return SimpleNamespace(total=5, sources=self.series, sinks={})

    def fold_exporter(self, exporter: str) -> None:
        """Nothing is held back here."""

    def counters_of(self, exporter: str) -> dict[str, SourceCounter]:
        return self.counters


def test_signals_of_one_source_are_added_up() -> None:
    names = ("both", "logs", "all")
    running = SimpleNamespace(
        exporter=SimpleNamespace(record_sources=[SimpleNamespace(name=name) for name in names]),
        entries={},
    )
    reader = UsageReader(
        cast("Any", Routed({"metrics": 10, "all": 20}, {"metrics": 1, "all": 2})),
        lambda _: cast("Any", running),
        cast("Any", [Routed({"both": 3, "logs": 4, "all": 5}), Routed({"both": 30, "all": 50})]),
    )
    reading = reader("a")
    assert reading is not None
    assert reading.sources == {
        "metrics": SourceReading(1, 10),
        "all": SourceReading(2, 20, 55),
        "both": SourceReading(records=33),
        "logs": SourceReading(records=4),
    }
