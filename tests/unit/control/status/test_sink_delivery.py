"""The facts of a sink from those of its outputs: the worst one that has data."""

from __future__ import annotations

from relay.config.exporter.records.outputs import outputs_by_signal
from relay.config.exporter.types import Exporter, OtlpHttp, RecordSource, Sink, Source
from relay.control.status.assess import DeliveryFacts
from relay.control.status.sink_delivery import merged
from relay.selector.matchers import Selector
from relay.selector.records.selection import RecordSelection

NOTHING = DeliveryFacts(False)
GOOD = DeliveryFacts(True, succeeded=True)
WAITS = DeliveryFacts(True, waits=True)
FAILS = DeliveryFacts(True, failure="HTTP 404", kind="rejected", unsettled=True)
BEHIND = DeliveryFacts(True, succeeded=True, behind="too slow")


def test_an_output_without_data_says_nothing() -> None:
    assert merged({"metrics": NOTHING, "logs": GOOD}) == GOOD
    assert merged({"metrics": NOTHING, "logs": NOTHING}) == NOTHING


def test_the_worst_output_counts_and_is_named() -> None:
    found = merged({"metrics": GOOD, "logs": FAILS, "traces": WAITS})
    assert (found.failure, found.kind, found.unsettled) == ("logs: HTTP 404", "rejected", True)
    assert merged({"metrics": GOOD, "traces": WAITS}) == WAITS
    assert merged({"metrics": BEHIND, "logs": GOOD}).behind == "metrics: too slow"


def test_a_loss_is_shown_beside_a_success() -> None:
    lossy = DeliveryFacts(True, succeeded=True, loss="too old")
    assert merged({"metrics": GOOD, "logs": lossy}).loss == "logs: too old"
    nothing_but_loss = DeliveryFacts(False, loss="deltas")
    assert merged({"metrics": nothing_but_loss, "logs": GOOD}).loss == "metrics: deltas"


def test_every_output_of_the_worst_kind_is_named() -> None:
    refused = DeliveryFacts(True, failure="HTTP 401", kind="unauthorized")
    every = merged({"metrics": refused, "logs": refused, "traces": refused})
    assert (every.failure, every.kind) == ("metrics, logs and traces: HTTP 401", "unauthorized")
    assert merged({"metrics": GOOD, "logs": refused, "traces": refused}).failure == (
        "logs and traces: HTTP 401"
    )
    gone = DeliveryFacts(True, failure="no route", kind="unreachable")
    mixed = merged({"metrics": gone, "logs": refused, "traces": gone})
    assert (mixed.failure, mixed.kind) == (
        "logs: HTTP 401; metrics and traces: no route",
        "unreachable",
    )
    slow = merged({"metrics": BEHIND, "logs": BEHIND, "traces": GOOD})
    assert slow.behind == "metrics and logs: too slow"


def test_every_loss_is_shown() -> None:
    metrics = DeliveryFacts(True, succeeded=True, loss="deltas")
    logs = DeliveryFacts(True, succeeded=True, loss="1 rejected")
    spans = DeliveryFacts(True, succeeded=True, loss="1 rejected")
    found = merged({"metrics": metrics, "logs": logs, "traces": spans})
    assert found.loss == "metrics: deltas; logs and traces: 1 rejected"


def test_one_output_is_the_sink_itself() -> None:
    assert merged({"logs": FAILS}) == FAILS


def test_outputs_are_those_that_have_sources() -> None:
    sink = Sink("s", ("m", "l"), OtlpHttp("http://h/v1/metrics"))
    logs = RecordSource("l", "logs", "", RecordSelection())
    metrics = Source("m", "", Selector(()))
    both = Exporter("", "d", "x", (metrics,), (sink,), (logs,))
    assert outputs_by_signal(both, sink) == {"metrics": "s", "logs": "s/logs"}
    alone = Exporter("", "d", "x", (), (sink,), (logs,))
    assert outputs_by_signal(alone, sink) == {"logs": "s/logs"}
    assert outputs_by_signal(Exporter("", "d", "x", (), (sink,)), sink) == {"metrics": "s"}
