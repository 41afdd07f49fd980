"""Whatever records an endpoint of OTLP cannot read: those are rejected, and all others arrive."""

from __future__ import annotations

from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.exporter.types import OtlpHttp, Sink
from relay.sink.otlp_http import classify
from relay.sink.queue.encoding import SharedBodyCache, encode_batch
from relay.sink.retry.bisection import REQUESTS_MAX, STREAK_MAX
from relay.sink.steps import Now, Send
from tests.kit.batches import sealed_batch
from tests.kit.holds import Holds
from tests.kit.oracle.number_points import decode
from tests.kit.otlp.batches import record_batch, values_of
from tests.kit.otlp.official import LOGS, TRACES, Kind
from tests.kit.sink.delivery import delivery_of


class Unreadable:
    """A sink, and an endpoint that refuses all of a request with a record that it cannot read.

    ``kind`` None: metrics.
    """

    def __init__(self, kind: Kind | None, bad: set[int]) -> None:
        signal = {None: "metrics", LOGS: "logs", TRACES: "traces"}[kind]
        endpoint = OtlpHttp("http://127.0.0.1:1/", signal=signal)
        sink = Sink("s", ("all",), endpoint)
        self.kind = kind
        self.bad = bad
        self.holds = Holds()
        self.stored: list[float] = []
        self.requests = 0
        self.now = Now(1000.0, 50.0)
        self.delivery = delivery_of(sink, self.holds, [])

    def deliver(self, count: int) -> None:
        """Send a batch of the numbers below ``count`` until nothing is left."""
        self.holds.hold(1)
        opened_at = self.now.wall
        if self.kind is None:
            sealed = sealed_batch(map(float, range(count)), position=1, opened_at=opened_at)
        else:
            sealed = record_batch(self.kind, range(count), position=1, opened_at=opened_at)
        self.delivery.ledger.offer(count)
        requests = encode_batch(
            sealed,
            self.delivery.encoder,
            shard=0,
            compression="none",
            bytes_max=1 << 26,
            bodies=SharedBodyCache(),
        )
        self.delivery.enqueue(requests, self.now)
        while not self.delivery.queue.empty:
            step = self.delivery.next_step(0, self.now)
            assert isinstance(step, Send)
            self.requests += 1
            body = step.request.body
            values = [] if self.kind is None else values_of(self.kind, body)
            if self.kind is None:
                values = [unpack("<d", pack("<Q", one.value_bits))[0] for one in decode(body)]
            assert len(values) == step.request.points
            is_read = self.bad.isdisjoint(map(int, values))
            self.stored += values if is_read else []
            verdict = classify(200 if is_read else 400, {}, b"", 0.0)
            self.delivery.on_response(step.request, verdict, self.now)


@pytest.mark.parametrize("kind", [None, LOGS, TRACES], ids=["metrics", "logs", "traces"])
@given(st.data())
def test_a_few_unreadable_records_are_all_that_is_lost(
    kind: Kind | None, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 300))
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    sink = Unreadable(kind, bad)
    sink.deliver(count)
    assert sink.stored == [value for value in map(float, range(count)) if value not in bad]
    ledger = sink.delivery.ledger.statistics()
    assert ledger.delivered == count - len(bad)
    assert ledger.rejected == ({"http_400": len(bad)} if bad else {})
    assert sink.requests <= 1 + REQUESTS_MAX
    assert not sink.holds.total


@pytest.mark.parametrize("kind", [None, LOGS, TRACES], ids=["metrics", "logs", "traces"])
def test_an_endpoint_that_reads_nothing_is_not_asked_for_ever(kind: Kind | None) -> None:
    """The budget of a batch, and of batches in a row; what has none is rejected as it is."""
    sink = Unreadable(kind, set(range(200)))
    for _ in range(STREAK_MAX):
        sink.deliver(200)
    assert sink.requests == STREAK_MAX * (1 + REQUESTS_MAX)
    sink.deliver(200)
    assert sink.requests == STREAK_MAX * (1 + REQUESTS_MAX) + 1
    ledger = sink.delivery.ledger.statistics()
    assert ledger.rejected == {"http_400": 200 * (STREAK_MAX + 1)}
    assert not ledger.delivered
    assert not sink.holds.total


@pytest.mark.parametrize("kind", [None, LOGS, TRACES], ids=["metrics", "logs", "traces"])
def test_a_sender_of_one_unreadable_record_in_each_batch_loses_those_alone(
    kind: Kind | None,
) -> None:
    sink = Unreadable(kind, {137})
    for _ in range(3 * STREAK_MAX):
        sink.deliver(200)
    ledger = sink.delivery.ledger.statistics()
    assert ledger.rejected == {"http_400": 3 * STREAK_MAX}
    assert ledger.delivered == 3 * STREAK_MAX * 199
    assert sink.requests <= 3 * STREAK_MAX * (1 + 2 * 8)
    assert not sink.holds.total
