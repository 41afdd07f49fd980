"""Lines, filters and pages of the list."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.control.status.sink_history import SinkNow
from relay.ui.views.exporter_rows import PAGE_ROWS, list_page, read_time, row_of, summary_of
from tests.kit.apiserver.running import exporter
from tests.kit.ui.visitor import ready


def shown(name: str, **status: Any) -> bytes:
    """An object as the API shows it."""
    return json.dumps({**exporter(name, namespace="default"), "status": status}).encode()


def test_a_summary_has_what_the_list_filters_by() -> None:
    found = summary_of(shown("acme", **ready("Failing", "False", "401")))
    assert (found.namespace, found.name, found.state.word) == ("default", "acme", "Failing")
    assert found.destinations == ("otlp.example",)
    assert found.key == "Exporter__default__acme__"
    assert found.reason == "401"
    assert summary_of(shown("acme", **ready())).reason == ""
    assert summary_of(shown("acme", **ready("NoData", "Unknown"))).reason == ""


def test_a_status_of_another_shape_is_read_as_none() -> None:
    for status in ({"conditions": "x"}, {"conditions": [{"type": 3}]}, {"sinks": 7}):
        assert summary_of(shown("acme", **status)).state.word == "Starting"


def test_endpoints_that_are_no_addresses_are_named_by_their_sink() -> None:
    value = exporter("acme", namespace="default")
    value["spec"]["sinks"][0]["otlp_http"]["endpoint"] = "http://[::1"
    assert summary_of(json.dumps(value).encode()).destinations == ("one",)


NAMES = st.lists(st.text("ab-", min_size=1, max_size=4), unique=True, max_size=250)


@given(NAMES, st.sampled_from(["", "a", "a b", "default", "zzz"]))
def test_pages_are_the_whole_in_order(names: list[str], query: str) -> None:
    summaries = [summary_of(shown(name)) for name in names]
    found: list[str] = []
    after, first = "", 0
    while True:
        page = list_page(summaries, query=query, after=after)
        assert page.first == first
        assert page.has_before == (first > 0)
        assert len(page.rows) <= PAGE_ROWS
        found += [one.name for one in page.rows]
        first += len(page.rows)
        if not page.after:
            break
        after = page.after
    wanted = sorted(
        one.name
        for one in summaries
        if all(w in f"{one.name} default otlp.example" for w in query.split())
    )
    assert found == wanted
    assert page.found == len(wanted)


def test_the_page_before_ends_where_this_one_begins() -> None:
    summaries = [summary_of(shown(f"n{i:04}")) for i in range(250)]
    second = list_page(summaries, after=list_page(summaries).after)
    third = list_page(summaries, after=second.after)
    assert list_page(summaries, after=third.before).rows == second.rows
    assert list_page(summaries, after=second.before).rows == list_page(summaries).rows


def test_filters_count_what_the_search_finds() -> None:
    good = [summary_of(shown(f"good-{i}", **ready())) for i in range(3)]
    bad = [summary_of(shown("bad-0", **ready("Failing", "False")))]
    page = list_page(good + bad, state="failing")
    assert page.counts == (("failing", "Failing", 1), ("delivering", "Delivering", 3))
    assert [one.name for one in page.rows] == ["bad-0"]
    assert page.all == 4
    assert list_page(good + bad, query="good", state="failing").found == 0


def test_a_cursor_that_is_none_begins_at_the_start() -> None:
    assert list_page([summary_of(shown("a"))], after="x").found == 1


def test_a_line_has_the_newest_success_and_the_sum_of_losses() -> None:
    computed = {
        "usage": {"activeSeries": 7},
        "sinks": [
            {"lastSuccess": "2026-11-29T07:00:00Z", "ledger": {"rejected": 1, "dropped": 2}},
            {"lastSuccess": "2026-11-29T08:00:00Z", "ledger": {"expired": 4}},
        ],
    }
    summary = summary_of(shown("a"))
    row = row_of(summary, computed, None)
    assert (row.series, row.lost, row.per_s) == (7, (("points", 7),), (("points", 0.0),))
    assert row.last_success == read_time("2026-11-29T08:00:00Z")
    now = SinkNow({"metrics": 1.5}, 3.0, {"metrics": 9})
    row = row_of(summary, computed, now)
    assert (row.per_s, row.oldest_s, row.lost) == ((("points", 1.5),), 3.0, (("points", 9),))
    empty = row_of(summary, None, None)
    assert (empty.per_s, empty.lost, empty.is_known) == ((), (), False)
    assert (empty.series, empty.last_success) == (None, None)


def test_a_line_has_the_figures_of_each_signal_that_is_sent() -> None:
    signals = [{"signal": "logs", "ledger": {"dropped": 2}}, {"signal": "traces"}]
    summary = summary_of(shown("a"))
    row = row_of(summary, {"sinks": [{"ledger": {}, "signals": signals}]}, None)
    assert row.per_s == (("log records", 0.0), ("spans", 0.0))
    assert row.lost == (("log records", 2),)
    # The output of metrics runs, although no source has any.
    now = SinkNow({"metrics": 0.0, "traces": 2.0, "logs": 1.0}, None, {"logs": 3, "traces": 0})
    row = row_of(summary, {"sinks": [{"signals": signals}]}, now)
    assert row.per_s == (("log records", 1.0), ("spans", 2.0))
    assert row.lost == (("log records", 3),)


def test_times_of_others_are_none() -> None:
    for text in (None, 5, "", "x", "2026-11-29T07:00:00"):
        assert read_time(text) is None


def test_no_two_lines_have_one_name() -> None:
    places = [("a-b", "c"), ("a", "b-c"), ("a", "b.c"), ("a", "b.c-d"), ("a.b", "c")]
    found = summary_of(shown("e"))
    keys = {replace(found, namespace=one, name=name).key for one, name in places}
    assert len(keys) == len(places)
