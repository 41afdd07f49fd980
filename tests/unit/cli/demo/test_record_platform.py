"""The demo's logs and traces, read by the official classes, and selected by the demo's Exporter."""

from __future__ import annotations

import pytest

from relay.cli.demo.platform import CUSTOMERS
from relay.cli.demo.records.platform import (
    LOST_REQUESTS,
    SAMPLED_PART,
    WATCHED,
    LogCollector,
    RecordScraper,
    TraceCollector,
    expected_outputs,
)
from relay.cli.demo.records.tally import NO_RECORDS, Tally
from relay.cli.demo.scenario import cast
from tests.kit.otlp.official import LOGS, TRACES, Kind

NOW_NS = 1_700_000_000_000_000_000


@pytest.mark.parametrize(("make", "kind"), [(LogCollector, LOGS), (TraceCollector, TRACES)])
def test_requests_have_what_they_say(make: type[RecordScraper], kind: Kind) -> None:
    first, again, other = (make(seed) for seed in (1, 1, 2))  # type: ignore[call-arg]
    bodies = set()
    sent = expected = 0
    for number in range(1, 2 * LOST_REQUESTS + 1):
        request = first.next_request(NOW_NS)
        rows = kind.rows(request.body)
        assert request.records == len(rows)
        projects = [
            next((one.value.string_value for one in resource if one.key == "milo.project.id"), "")
            for head, _, _ in rows
            for resource in [kind.resource.FromString(head).resource.attributes]
        ]
        assert {*projects} - {""} == {*CUSTOMERS}
        assert request.no_tenant == projects.count("")
        assert (request.no_tenant > 0) == (number % LOST_REQUESTS == 0)
        mine = [
            record for (_, _, record), one in zip(rows, projects, strict=True) if one == WATCHED
        ]
        sent, expected = sent + len(mine), expected + request.expected.records
        assert request == again.next_request(NOW_NS)
        bodies |= {request.body, other.next_request(NOW_NS).body}
    assert len(bodies) == 4 * LOST_REQUESTS
    assert 0 < expected < sent


def test_tallies_forget_the_order_and_nothing_else() -> None:
    records = [b"a", b"b", b"b"]
    assert NO_RECORDS.with_records(records) == NO_RECORDS.with_records(reversed(records))
    assert NO_RECORDS.with_records(records) != NO_RECORDS.with_records([b"a", b"a", b"b"])
    assert NO_RECORDS.with_records(records[:1]) + NO_RECORDS.with_records(records[1:]) == Tally(
        3, NO_RECORDS.with_records(records).checksum
    )


def test_what_should_arrive_is_of_outputs_that_exist() -> None:
    outputs = {key for part in cast() for key in part.outputs.values()}
    assert expected_outputs({"logs": NO_RECORDS, "traces": NO_RECORDS}).keys() < outputs
    assert 0 < SAMPLED_PART < 1
