"""Outages of hours in milliseconds: the clock is in the test's hand, the disk is a dictionary."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from relay.config.exporter.types import OtlpHttp, Queue, RetrySettings, Sink
from relay.sink.delivery import MEMORY_AGE_S, MEMORY_BYTES_MAX
from relay.sink.otlp_http import OTLP_HTTP
from relay.sink.queue.disk_index import RecordPlace
from relay.sink.queue.encoding import SharedBodyCache, encode_batch
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.reporting.forecast import STALLED_S
from relay.sink.reporting.health import LogLine
from relay.sink.request_size import configured_bytes_max
from relay.sink.retry import verdict
from relay.sink.retry.circuit_breaker import Circuit
from relay.sink.steps import Load, Now, Send, Sleep
from tests.kit.batches import sealed_batch
from tests.kit.holds import Holds
from tests.kit.sink.changed_request import changed
from tests.kit.sink.delivery import delivery_of

SINK = Sink(
    "s",
    ("all",),
    OtlpHttp("http://127.0.0.1:1/v1/metrics", compression="none"),
    retry=RetrySettings(backoff_s=2.0),
)
HOUR = 3600.0
DOWN = verdict.Retry("connect_failed", "cannot connect")


class Outage:
    """One sink, its clock and its disk; ``down`` is what its endpoint answers, None: it takes."""

    def __init__(self, sink: Sink = SINK) -> None:
        self.holds = Holds()
        self.notes: list[LogLine] = []
        self.now = Now(1_000_000.0, 50.0)
        self.disk: dict[tuple[int, int, int], EncodedRequest] = {}
        self.offset = 0
        self.position = 0
        self.down: verdict.Verdict | None = DOWN
        self.delivered: list[EncodedRequest] = []
        self.attempts = 0
        self.circuit = Circuit(random.Random(5))
        self.sink = sink
        self.delivery = delivery_of(sink, self.holds, self.notes, self.circuit)
        self.circuit.subscribe(self.delivery.resume)

    def offer(self, shard: int = 0, *, values: int = 1) -> None:
        self.position += 1
        self.holds.hold(self.position)
        sealed = sealed_batch(
            [float(self.position)] * values, position=self.position, opened_at=self.now.wall
        )
        self.delivery.ledger.offer(sealed.count)
        requests = encode_batch(
            sealed,
            OTLP_HTTP.encoder,
            shard=shard,
            compression="none",
            bytes_max=configured_bytes_max(self.sink),
            bodies=SharedBodyCache(),
        )
        self.delivery.enqueue(requests, self.now)

    def save(self, *, at_once: bool = False) -> None:
        queue = self.delivery.queue
        for shard in self.delivery.shards_to_spill(self.now, at_once=at_once):
            places = []
            for payload in queue.shards[shard].begin_spill():
                place = RecordPlace(self.offset // 10_000, self.offset, self.offset + 100)
                self.offset += 100
                self.disk[shard, place.segment, place.offset] = changed(payload, position=STORED)
                places.append(place)
            self.delivery.spilled(shard, places)
        for shard, numbers in queue.free().items():
            for key in [key for key in self.disk if key[0] == shard and key[1] in numbers]:
                del self.disk[key]

    def work(self) -> None:
        """Let every lane do what it has to at this moment."""
        for shard in range(len(self.delivery.queue.shards)):
            while not isinstance(step := self.delivery.next_step(shard, self.now), Sleep):
                if isinstance(step, Load):
                    entry = step.entry
                    stored = self.disk[entry.shard, entry.segment, entry.offset]
                    step = self.delivery.loaded(entry, changed(stored), self.now)
                assert isinstance(step, Send)
                self.attempts += 1
                if self.down is None:
                    self.delivered.append(step.request)
                self.delivery.on_response(step.request, self.down or verdict.Delivered(), self.now)

    def pass_time(self, seconds: float, *, step_s: float, batch_every_s: float = 0.0) -> None:
        due = 0.0
        left = seconds
        while left > 0:
            self.now = Now(self.now.wall + step_s, self.now.monotonic + step_s)
            due += step_s
            left -= step_s
            if batch_every_s and due >= batch_every_s:
                due = 0.0
                self.offer()
            self.work()
            self.save()
            self.delivery.watch(self.now)


def test_a_day_of_outage_expires_nothing_and_is_delivered_in_order() -> None:
    outage = Outage(replace(SINK, queue=Queue(age_max_s=24 * HOUR + 60.0)))
    outage.pass_time(24 * HOUR, step_s=5.0, batch_every_s=30.0)
    ledger = outage.delivery.ledger.statistics()
    assert ledger.offered == ledger.queued == 2880
    assert ledger.expired == 0
    statistics = outage.delivery.queue.statistics()
    assert statistics.stored_payloads >= 2870
    assert outage.delivery.queue.memory_bytes < 10_000
    assert outage.holds.total < 10
    assert outage.attempts < 24 * HOUR / 15  # probes, not one for each batch
    outage.down = None
    outage.pass_time(60.0, step_s=5.0)
    values = [int(request.created_at) for request in outage.delivered]
    assert len(values) == 2880
    assert values == sorted(values)
    done = outage.delivery.ledger.statistics()
    assert done.delivered == 2880
    assert done.queued == outage.holds.total == 0
    assert outage.disk == {}


def test_what_is_older_than_max_age_expires_wherever_it_is() -> None:
    outage = Outage(replace(SINK, queue=Queue(age_max_s=HOUR)))
    outage.pass_time(3 * HOUR, step_s=5.0, batch_every_s=60.0)
    ledger = outage.delivery.ledger.statistics()
    assert ledger.expired in (119, 120)
    assert ledger.queued == ledger.offered - ledger.expired
    oldest = outage.delivery.queue.oldest_created_at()
    assert oldest is not None
    assert oldest + HOUR > outage.now.wall
    assert outage.holds.total <= 2


def test_a_short_hiccup_stays_in_memory() -> None:
    outage = Outage()
    outage.offer()
    outage.pass_time(5.0 + MEMORY_AGE_S - 1.0, step_s=1.0)
    assert outage.disk == {}
    outage.pass_time(2.0, step_s=1.0)
    assert len(outage.disk) == 1
    assert outage.holds.total == 0


def test_too_much_for_memory_goes_to_disk_at_once() -> None:
    outage = Outage()
    size = outage.delivery.queue.memory_bytes
    while outage.delivery.queue.memory_bytes <= MEMORY_BYTES_MAX:
        outage.offer(values=2000)
        assert outage.delivery.queue.memory_bytes > size
    outage.save()
    assert outage.delivery.queue.memory_bytes == 0
    assert outage.delivery.ledger.statistics().queued == outage.position * 2000


def test_attempts_count_on_disk_as_in_memory() -> None:
    outage = Outage(replace(SINK, retry=RetrySettings(attempts_max=3, backoff_s=1.0)))
    outage.offer()
    outage.save(at_once=True)
    outage.pass_time(200.0, step_s=1.0)
    assert outage.delivery.ledger.statistics().dropped == {"attempts_exhausted": 1}
    assert outage.attempts == 4


@pytest.mark.parametrize("shards", [1, 16])
def test_an_endpoint_that_is_out_of_reach_is_probed_by_one_request_at_a_time(shards: int) -> None:
    outage = Outage(replace(SINK, endpoint=replace(SINK.endpoint, concurrency=shards)))
    for shard in range(shards):
        outage.offer(shard)
    outage.pass_time(HOUR, step_s=2.5)
    # Each lane's first attempts, then a probe at most every 7.5 s, whatever the number of lanes.
    assert outage.attempts <= 2 * shards + HOUR / 7.5
    assert outage.circuit.open


def test_the_first_answer_ends_the_wait_of_all_lanes() -> None:
    outage = Outage(replace(SINK, endpoint=replace(SINK.endpoint, concurrency=8)))
    for shard in range(8):
        outage.offer(shard)
    outage.pass_time(HOUR, step_s=0.5)
    outage.down = None
    waited_s = 0.0
    while not outage.delivery.ledger.statistics().delivered:
        outage.pass_time(0.5, step_s=0.5)
        waited_s += 0.5
    assert waited_s <= 16.0
    outage.work()  # at the same moment: lanes that were looked at before the one that got through
    assert outage.delivery.ledger.statistics().delivered == 8


def test_an_endpoint_that_asked_for_patience_gets_it() -> None:
    outage = Outage()
    outage.down = verdict.Retry("http_503", "busy", after_s=600.0)
    outage.offer()
    outage.work()
    outage.delivery.resume()
    step = outage.delivery.next_step(0, outage.now)
    assert isinstance(step, Sleep)
    assert step.delay_s == pytest.approx(600.0)


def test_the_watchdog_says_once_that_nothing_moves() -> None:
    outage = Outage()
    outage.pass_time(STALLED_S + 60.0, step_s=1.0, batch_every_s=10.0)
    said = [note for note in outage.notes if "no progress" in note.text]
    assert len(said) == 1
    assert "cannot connect" in said[0].text
    assert outage.delivery.forecaster.forecast(outage.now.monotonic).stalled
