"""Rows of ``relay top``: rates, order, what a terminal has room for."""

from __future__ import annotations

from typing import Any

import pytest

from relay.cli.live.sink_table import COLUMNS, SinkRow, fit
from relay.cli.live.top import render, rows_of, sorted_rows

STATUS: dict[str, Any] = {
    "summary": {"exporters": 2, "sinks": {"healthy": 1, "failing": 1, "paused": 0, "behind": 0}},
    "ingest": {"receivedSamples": 1_000, "activeSeries": 20, "unmatchedSamples": 3},
    "faults": [{}],
}


def status(delivered: int, **sink: object) -> dict[str, Any]:
    own = {
        "name": "s",
        "state": "healthy",
        "ledger": {
            "matched": 500,
            "delivered": delivered,
            "rejected": {"http_400": 2, "other": 1},
            "queued": 7,
        },
        "queue": {"oldestPointAgeSeconds": 0.0},
        "lastError": None,
        **sink,
    }
    return {**STATUS, "exporters": [{"name": "default/a", "sinks": [own]}]}


def row(exporter: str, sink: str, state: str, queued: int = 0, rate: float = 0.0) -> SinkRow:
    return SinkRow(exporter, sink, 0, 0, 0, queued, rate, state)


def test_one_look_tells_the_rate() -> None:
    (found,) = rows_of(status(100, usage={"samplesPerMinute": 612}), now=0.0)
    assert (found.rate, found.rejected, found.queued) == (612, 3, 7)


def test_logs_and_traces_have_rows_of_their_own() -> None:
    document = status(100)
    (sink,) = document["exporters"][0]["sinks"]
    logs = {key: sink[key] for key in ("state", "ledger", "queue", "lastError")}
    sink["signals"] = [{"signal": "logs", "sources": ["a", "b"], **logs}]
    sink["sources"] = ["a", "b", "m"]
    document["exporters"][0]["sources"] = [
        {"name": name, "usage": {"recordsPerMinute": rate}}
        for name, rate in (("a", 30), ("b", 12), ("c", 7))
    ]
    assert [(one.sink, one.rate) for one in rows_of(document, now=0.0)] == [
        ("s", 0.0),
        ("s/logs", 42),
    ]
    records = {"received": 5_000, "resources": 2, "unmatched": 7}
    document["ingest"] = {**STATUS["ingest"], "records": {"logs": records}}
    lines = list(render(document, [], "http://x"))
    assert "  received 5,000 log records of 2 resources, 7 selected by none" in lines
    assert not any("not taken" in line for line in lines)
    records |= {"resources": 1, "noTenant": 1_016, "tooLarge": 0}
    lines = list(render(document, [], "http://x"))
    at = lines.index("  received 5,000 log records of 1 resource, 7 selected by none")
    assert lines[at + 1] == "    not taken: 1,016 of no project"


@pytest.mark.parametrize(
    ("sources", "figures", "names"),
    [
        (["a"], {"matched": 0, "queued": 0}, ["s/logs"]),
        (["a", "m"], {"matched": 0, "queued": 0}, ["s", "s/logs"]),
        (["a"], {"matched": 9, "queued": 0}, ["s", "s/logs"]),
        (["a"], {"matched": 0, "queued": 9}, ["s", "s/logs"]),
    ],
)
def test_a_sink_of_logs_alone_has_no_row_of_metrics(
    sources: list[str], figures: dict[str, int], names: list[str]
) -> None:
    document = status(100, sources=sources)
    (sink,) = document["exporters"][0]["sinks"]
    sink["signals"] = [{**sink, "signal": "logs", "sources": ["a"]}]
    sink["ledger"] = {**sink["ledger"], **figures}
    document["exporters"][0]["sources"] = []
    assert [one.sink for one in rows_of(document, now=0.0)] == names


def test_one_exporter_is_no_plural() -> None:
    lines = list(render({"summary": {"exporters": 1, "sinks": {"healthy": 1}}}, [], "http://x"))
    assert lines[1] == "  1 exporter; sinks: 1 healthy"


def test_errors_and_old_points_are_shown() -> None:
    error = {"text": "HTTP 401", "at": "1970-01-01T00:00:30Z"}
    sink = {"lastError": error, "state": "failing", "queue": {"oldestPointAgeSeconds": 75.2}}
    (found,) = rows_of(status(1, **sink), now=90.0)
    assert (found.error, found.error_age_s) == ("HTTP 401", 60.0)
    assert found.state == "failing, oldest 75 s"
    lines = list(render(STATUS, [found], "http://x"))
    assert lines[0].startswith("-- http://x ")
    assert lines[1] == "  2 exporters; sinks: 1 healthy, 1 failing"
    assert lines[2] == "  received 1,000 samples of 20 series, 3 selected by none"
    assert lines[3] == "  1 fault in manifests: see relay check"
    assert lines[-1] == "    60 s ago: HTTP 401"
    assert "per min state" in lines[5]


def test_the_worst_come_first_and_exporters_stay_together() -> None:
    rows = [
        row("a", "1", "healthy", rate=5.0),
        row("b", "1", "healthy", rate=9.0),
        row("b", "2", "failing"),
        row("c", "1", "behind, oldest 90 s", queued=5),
        row("d", "1", "behind", queued=50),
    ]

    def order(by: str) -> str:
        return " ".join(f"{one.exporter}{one.sink}" for one in sorted_rows(rows, by))

    assert order("state") == "b2 b1 d1 c1 a1"
    assert order("rate") == "b1 b2 a1 c1 d1"
    assert order("queue") == "d1 c1 a1 b1 b2"
    assert order("name") == "a1 b1 b2 c1 d1"


def test_a_line_fits_its_terminal() -> None:
    assert fit("x" * 200) == "x" * (COLUMNS - 3) + "..."
    assert fit("x" * 200, 300) == "x" * 200
    assert fit("\x1b[2J") == "?[2J"
