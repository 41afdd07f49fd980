"""How large requests may be, learned from answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from relay.config.exporter.types import Batch, RetrySettings
from relay.sink.request_size import FLOOR_BYTES, FLOOR_TRIES, PROBE_S, RequestSize
from relay.sink.retry import verdict
from tests.unit.sink.test_delivery import SINK, TOO_LARGE, Bench

MIB = 1 << 20


class Endpoint:
    """Takes requests of at most so many bytes, from a sender that has much to send."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = RequestSize()
        self.now = 0.0
        self.refused = 0

    def send(self, wanted: int = 4 * MIB) -> int:
        """One request, cut until it is taken; returns its size."""
        while True:
            size = min(wanted, self.size.bytes_max(self.now) or wanted)
            if size <= self.limit:
                self.size.accepted(size)
                return size
            self.refused += 1
            assert self.refused < 1000
            step = self.size.refused(size, self.now, points=size // 100)
            if step == "wait":
                self.now += 1.0


def test_the_size_comes_close_to_the_limit_and_stays_there() -> None:
    endpoint = Endpoint(MIB)
    sizes = [endpoint.send() for _ in range(100)]
    assert min(sizes[10:]) > 0.8 * MIB
    assert endpoint.refused < 8


def test_a_limit_that_is_raised_is_found_within_minutes() -> None:
    endpoint = Endpoint(MIB)
    for _ in range(20):
        endpoint.send()
    endpoint.limit = 100 * MIB
    endpoint.now += PROBE_S
    assert max(endpoint.send() for _ in range(20)) == 4 * MIB


def test_probes_of_a_limit_that_stays_grow_rare() -> None:
    endpoint = Endpoint(MIB)
    for _ in range(50):
        endpoint.send()
    before = endpoint.refused
    for _ in range(3600):
        endpoint.now += 1.0
        endpoint.send()
    assert endpoint.refused - before < 12


def test_a_limit_below_the_floor_is_found_too() -> None:
    endpoint = Endpoint(1000)
    sizes = [endpoint.send() for _ in range(100)]
    assert min(sizes[10:]) > 500
    assert endpoint.refused < FLOOR_TRIES + 25


def sent(bench: Bench, answer: Callable[[], verdict.Verdict], seconds: float) -> list[int]:
    """Let a sink run for so long, 10 ms a request; the points of each request that was taken."""
    taken = []
    end = bench.now.monotonic + seconds
    while bench.now.monotonic < end and not bench.delivery.queue.empty:
        delay_s = bench.sleep() if waits(bench) else None
        if delay_s:
            bench.advance(delay_s)
            continue
        payload = bench.send()
        answered = answer()
        bench.delivery.on_response(payload, answered, bench.now)
        if isinstance(answered, verdict.Delivered):
            taken.append(payload.points)
        bench.advance(0.01)
    return taken


def waits(bench: Bench) -> bool:
    """Whether the lane has to wait now."""
    return bench.delivery._waits[0].until > bench.now.monotonic


def many(count: int) -> Bench:
    """A sink behind with so many requests of 2,000 points."""
    bench = Bench(replace(SINK, batch=Batch(points_max=2000), retry=RetrySettings(backoff_s=2.0)))
    for _ in range(count):
        bench.offer(*range(2000))
    return bench


def test_three_seconds_of_413_cost_nothing_and_leave_no_trace() -> None:
    bench = many(300)
    assert sent(bench, lambda: TOO_LARGE, 3.0) == []
    assert bench.delivery.health.state == "failing", "it does not keep up"
    assert bench.delivery.outcomes.last_error is not None
    taken = sent(bench, verdict.Delivered, 3.0)
    assert bench.delivery.health.state == "healthy"
    assert min(taken) > 100, "none below the floor"
    assert set(taken[30:]) == {2000}, "as large as before after some successes"
    assert bench.ledger().rejected == {}


def test_while_everything_is_refused_requests_grow_rare() -> None:
    bench = many(20)
    requests = 0

    def refuse() -> verdict.Verdict:
        nonlocal requests
        requests += 1
        return TOO_LARGE

    sent(bench, refuse, 3600.0)
    assert requests < 150
    assert sum(bench.ledger().rejected.values()) <= 1, "not a point a minute"


def test_the_floor_is_below_every_usual_limit() -> None:
    assert FLOOR_BYTES < 64 * 1024
