"""A sink that its owner has paused: what it decides, without a loop or a socket."""

from __future__ import annotations

from dataclasses import replace

from relay.config.exporter.types import Queue, Sink
from relay.sink.retry import verdict
from tests.unit.sink.test_delivery import SINK, UNAVAILABLE, Bench


def paused(sink: Sink = SINK) -> Bench:
    return Bench(replace(sink, paused=True))


def test_a_paused_sink_sends_nothing_and_goes_on_in_order() -> None:
    bench = paused()
    bench.offer(1)
    bench.offer(2)
    assert bench.sleep() is None
    assert bench.ledger().queued == 2
    bench.delivery.pause_sending(False)
    first = bench.settle(verdict.Delivered())
    second = bench.settle(verdict.Delivered())
    assert first.created_at <= second.created_at
    assert bench.finished().delivered == 2


def test_age_and_size_go_on_counting() -> None:
    bench = paused(replace(SINK, queue=Queue(bytes_max=200, age_max_s=60.0)))
    for value in range(20):
        bench.offer(value)
    assert bench.delivery.queue.bytes <= 200
    dropped = bench.ledger().dropped["queue_full"]
    assert dropped
    bench.advance(60.0)
    bench.delivery.expire(bench.now)
    ledger = bench.finished()
    assert ledger.expired == 20 - dropped


def test_what_is_in_flight_is_settled_and_a_retry_keeps_its_place() -> None:
    bench = Bench()
    bench.offer(1)
    bench.offer(2)
    request = bench.send()
    bench.delivery.pause_sending(True)
    bench.delivery.on_response(request, UNAVAILABLE, bench.now)
    bench.advance(1000.0)
    assert bench.sleep() is None
    assert bench.ledger().queued == 2
    bench.delivery.pause_sending(False)
    assert bench.send() is request
    bench.delivery.on_response(request, verdict.Delivered(), bench.now)
    bench.settle(verdict.Delivered())
    assert bench.finished().delivered == 2


def test_a_pause_is_no_stall() -> None:
    bench = paused()
    bench.offer(1)
    for _ in range(700):
        bench.advance(1.0)
        bench.delivery.watch(bench.now)
    assert not bench.notes
    assert bench.delivery.forecaster.forecast(bench.now.monotonic).stalled_s < 2.0
    bench.delivery.pause_sending(False)
    for _ in range(700):
        bench.advance(1.0)
        bench.delivery.watch(bench.now)
    assert "no progress" in bench.notes[0].text
