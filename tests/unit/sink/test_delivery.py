"""What a sink decides: every path to a ledger entry, without a loop or a socket."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.config.exporter.types import OtlpHttp, Queue, RetrySettings, Sink
from relay.sink import request_size
from relay.sink.otlp_http import OTLP_HTTP
from relay.sink.queue import encoding
from relay.sink.queue.encoding import SharedBodyCache, encode_batch, split_in_two
from relay.sink.queue.payload import EncodedRequest
from relay.sink.reporting.health import LOG_INTERVAL_S_MIN, Health, LogLine
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.request_size import PROBE_S, configured_bytes_max
from relay.sink.retry import verdict
from relay.sink.retry.backoff import RETRY_AFTER_S_MAX
from relay.sink.steps import Now, Send, Sleep
from tests.kit.batches import sealed_batch
from tests.kit.holds import Holds
from tests.kit.sink.delivery import delivery_of

SINK = Sink("s", ("all",), OtlpHttp("http://127.0.0.1:1/v1/metrics", compression="none"))
UNAVAILABLE = verdict.Retry("http_503", "HTTP 503")
TOO_LARGE = verdict.Split("HTTP 413")


class Bench:
    """A delivery with a clock in the test's hand."""

    def __init__(self, sink: Sink = SINK) -> None:
        self.holds = Holds()
        self.notes: list[LogLine] = []
        self.now = Now(1000.0, 50.0)
        self.sink = sink
        self.delivery = delivery_of(sink, self.holds, self.notes)

    def advance(self, seconds: float) -> None:
        self.now = Now(self.now.wall + seconds, self.now.monotonic + seconds)

    def offer(self, *values: float, shard: int = 0, position: int = 0, label: str = "x") -> None:
        self.holds.hold(position)
        sealed = sealed_batch(values, position=position, opened_at=self.now.wall, label=label)
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

    def send(self, shard: int = 0) -> EncodedRequest:
        step = self.delivery.next_step(shard, self.now)
        assert isinstance(step, Send), step
        return step.request

    def sleep(self, shard: int = 0) -> float | None:
        step = self.delivery.next_step(shard, self.now)
        assert isinstance(step, Sleep), step
        return step.delay_s

    def settle(self, verdict: verdict.Verdict, shard: int = 0) -> EncodedRequest:
        payload = self.send(shard)
        self.delivery.on_response(payload, verdict, self.now)
        return payload

    def ledger(self) -> LedgerStatistics:
        return self.delivery.ledger.statistics()

    def finished(self) -> LedgerStatistics:
        """The ledger, where nothing may be left."""
        assert self.delivery.queue.empty
        assert self.holds.total == 0
        ledger = self.ledger()
        assert ledger.queued == 0
        return ledger


def test_delivered() -> None:
    bench = Bench()
    assert bench.sleep() is None
    bench.offer(1, 2, 3)
    assert bench.ledger().queued == 3
    assert bench.holds.total == 1
    bench.settle(verdict.Delivered(message="soon full"))
    assert bench.finished().delivered == 3
    assert bench.delivery.outcomes.last_success_at == 1000.0
    assert bench.delivery.outcomes.last_warning is not None
    assert bench.delivery.outcomes.last_error is None


@pytest.mark.parametrize(("claimed", "counted"), [(2, 2), (3, 3), (10**12, 3)])
def test_partial_success_is_never_retried(claimed: int, counted: int) -> None:
    bench = Bench()
    bench.offer(1, 2, 3)
    bench.settle(verdict.Delivered(claimed, "too old"))
    ledger = bench.finished()
    assert ledger.delivered == 3 - counted
    assert ledger.rejected == {"partial_success": counted}
    assert bench.delivery.outcomes.last_error is not None
    assert "too old" in bench.delivery.outcomes.last_error.text


def test_rejected() -> None:
    bench = Bench()
    bench.offer(1, 2)
    bench.settle(verdict.Rejected("http_400", "HTTP 400"))
    assert bench.finished().rejected == {"http_400": 2}


def test_the_head_is_tried_again_before_the_next() -> None:
    bench = Bench()
    bench.offer(1, position=1)
    bench.offer(2, position=2)
    first = bench.settle(UNAVAILABLE)
    delay = bench.sleep()
    assert delay is not None
    assert 1.0 <= delay <= 2.0
    bench.advance(delay)
    assert bench.settle(verdict.Delivered()) is first
    assert bench.settle(verdict.Delivered()).position == 2
    assert bench.finished().delivered == 2


def test_lanes_fail_alone() -> None:
    bench = Bench(replace(SINK, endpoint=replace(SINK.endpoint, concurrency=2)))
    bench.offer(1, shard=0)
    bench.offer(2, shard=1)
    bench.settle(UNAVAILABLE, shard=0)
    assert bench.sleep(0)
    bench.settle(verdict.Delivered(), shard=1)
    assert bench.ledger().delivered == 1


def test_attempts_exhausted() -> None:
    bench = Bench(replace(SINK, retry=RetrySettings(attempts_max=2)))
    bench.offer(1, 2)
    for _ in range(3):
        bench.settle(UNAVAILABLE)
        bench.advance(100.0)
    assert bench.finished().dropped == {"attempts_exhausted": 2}


def test_retry_disabled_still_honours_retry_after() -> None:
    bench = Bench(replace(SINK, retry=RetrySettings(enabled=False)))
    bench.offer(1)
    bench.offer(2)
    bench.settle(verdict.Retry("http_429", "HTTP 429", after_s=7.0))
    assert bench.ledger().dropped == {"retry_disabled": 1}
    assert bench.sleep() == 7.0
    bench.advance(7.0)
    bench.settle(UNAVAILABLE)
    assert bench.finished().dropped == {"retry_disabled": 2}


def test_hostile_retry_after_is_capped_and_never_outlives_the_data() -> None:
    bench = Bench(replace(SINK, queue=Queue(age_max_s=600.0)))
    bench.offer(1, 2)
    bench.settle(verdict.Retry("http_503", "HTTP 503", after_s=float("inf")))
    assert bench.sleep() == 600.0
    bench.advance(600.0)
    assert bench.sleep() is None
    assert bench.finished().expired == 2
    bench.offer(3)
    assert bench.sleep() == 600.0  # the endpoint's wish outlives the payload, up to the cap
    bench.advance(RETRY_AFTER_S_MAX - 600.0)
    assert bench.ledger().expired == 2
    assert bench.sleep() is None
    assert bench.finished().expired == 3


def test_expired_while_in_flight() -> None:
    bench = Bench(replace(SINK, queue=Queue(age_max_s=5.0)))
    bench.offer(1, 2)
    payload = bench.send()
    bench.advance(5.0)
    assert bench.sleep() is None
    assert bench.ledger().queued == 2
    bench.delivery.on_response(payload, UNAVAILABLE, bench.now)
    assert bench.finished().expired == 2


@pytest.fixture
def no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests of a few points be what an endpoint's limit is for."""
    monkeypatch.setattr(request_size, "FLOOR_BYTES", 1)


@pytest.mark.usefixtures("no_floor")
def test_too_large_is_halved_in_order_and_remembered() -> None:
    bench = Bench()
    bench.offer(1, 2, 3, 4, position=5)
    whole = bench.settle(TOO_LARGE)
    assert bench.holds.held[5] == 2
    assert bench.delivery.too_large_bytes == whole.encoded_bytes
    assert [bench.settle(verdict.Delivered()).points for _ in range(2)] == [2, 2]
    assert bench.finished().delivered == 4
    bench.offer(5, 6, 7, 8, position=6)
    assert bench.settle(verdict.Delivered()).points == 2
    assert bench.holds.held[6] == 1
    assert bench.settle(verdict.Delivered()).points == 2
    assert bench.finished().delivered == 8
    bench.advance(PROBE_S)
    bench.offer(9, 10, 11, 12)
    assert bench.settle(verdict.Delivered()).points == 4
    assert bench.delivery.too_large_bytes is None


@pytest.mark.usefixtures("no_floor")
def test_only_the_point_that_is_too_large_is_lost() -> None:
    bench = Bench()
    bench.offer(1, 2, 3, 4)
    delivered = []
    while not bench.delivery.queue.empty:
        payload = bench.send()
        big = bench.ledger().delivered == 2 or payload.points > 1  # the third point is the big one
        bench.delivery.on_response(payload, TOO_LARGE if big else verdict.Delivered(), bench.now)
        delivered.append(payload.points)
        if bench.ledger().rejected:
            break
    assert bench.ledger().rejected == {"too_large": 1}
    assert bench.delivery.too_large_bytes is None
    bench.settle(verdict.Delivered())
    assert bench.finished().delivered == 3


@pytest.mark.usefixtures("no_floor")
def test_halving_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "SPLIT_DEPTH_MAX", 5)
    bench = Bench()
    bench.offer(*range(1 << 7))
    refusals = 0
    while not bench.delivery.queue.empty:
        bench.settle(TOO_LARGE)
        refusals += 1
    assert refusals <= 2**6
    assert bench.finished().rejected == {"too_large": 1 << 7}


@pytest.mark.usefixtures("no_floor")
def test_a_small_limit_of_the_endpoint_loses_only_what_is_larger() -> None:
    """10,000 points and an endpoint that takes a handful at a time, but not every one of them."""
    bench = Bench()
    bench.offer(*range(10_000))
    refusals = 0
    while not bench.delivery.queue.empty:
        payload = bench.send()
        fits = payload.encoded_bytes <= 300
        bench.delivery.on_response(payload, verdict.Delivered() if fits else TOO_LARGE, bench.now)
        refusals += not fits
    ledger = bench.finished()
    assert (ledger.delivered, ledger.rejected) == (10_000, {})
    assert refusals < 100, "the size that was refused is remembered"


def test_request_bytes_max_cuts_before_the_queue() -> None:
    bench = Bench(replace(SINK, endpoint=replace(SINK.endpoint, request_bytes_max=500)))
    bench.offer(*range(20), position=3)
    pieces = bench.delivery.queue.statistics().payloads
    assert pieces > 1
    assert bench.holds.held[3] == pieces
    points = 0
    while not bench.delivery.queue.empty:
        payload = bench.settle(verdict.Delivered())
        assert payload.encoded_bytes <= 500
        points += payload.points
    assert points == bench.finished().delivered == 20


@pytest.mark.parametrize(
    ("points", "config"),
    [
        # More halvings than an endpoint may demand: our own limit is kept all the same.
        (
            5000,
            replace(
                SINK, endpoint=replace(SINK.endpoint, request_bytes_max=500, compression="none")
            ),
        ),
        # A queue smaller than the batch: it is cut, or nothing could ever be delivered.
        (
            500,
            replace(SINK, endpoint=replace(SINK.endpoint, compression="none"), queue=Queue(8192)),
        ),
    ],
)
def test_a_batch_is_cut_to_what_the_configuration_allows(points: int, config: Sink) -> None:
    bench = Bench(config)
    bench.offer(*range(points))
    largest = config.endpoint.request_bytes_max or config.queue.bytes_max // 4
    delivered = 0
    while not bench.delivery.queue.empty:
        payload = bench.settle(verdict.Delivered())
        assert payload.encoded_bytes <= largest
        delivered += payload.points
    ledger = bench.finished()
    assert ledger.delivered == delivered == points - sum(ledger.dropped.values())
    assert delivered >= min(points, 40)


def test_refused_credentials_pause_every_lane_without_counting_attempts() -> None:
    sink = replace(
        SINK, retry=RetrySettings(attempts_max=1), endpoint=replace(SINK.endpoint, concurrency=2)
    )
    bench = Bench(sink)
    bench.offer(1, shard=0)
    bench.offer(2, shard=1)
    in_flight = bench.send(1)
    for expected in (2.0, 4.0, 8.0, 16.0):
        bench.settle(verdict.Unauthorized("HTTP 401"))
        assert bench.delivery.paused == "HTTP 401"
        delay = bench.sleep()
        assert delay is not None
        assert expected / 2 <= delay <= expected
        bench.advance(delay)
    bench.settle(verdict.Unauthorized("HTTP 401"))
    before = bench.sleep(0)
    bench.delivery.on_response(in_flight, verdict.Unauthorized("HTTP 401"), bench.now)
    assert bench.sleep(0) == bench.sleep(1) == before  # the late answer lengthens nothing
    assert before is not None
    bench.advance(before)
    bench.settle(verdict.Delivered(), 0)
    assert bench.delivery.paused == ""
    bench.settle(verdict.Delivered(), 1)
    assert bench.finished().delivered == 2


def test_queue_full_drops_the_oldest_and_releases_it() -> None:
    sizes = Bench()
    sizes.offer(1)
    size = sizes.delivery.queue.statistics().bytes
    bench = Bench(replace(SINK, queue=Queue(bytes_max=2 * size)))
    for position in (1, 2, 3):
        bench.advance(1.0)
        bench.offer(position, position=position)
    assert bench.ledger().dropped == {"queue_full": 1}
    assert bench.holds.held == {1: 0, 2: 1, 3: 1}


def test_close_drops_what_waits_and_what_comes() -> None:
    bench = Bench()
    bench.offer(1, 2)
    payload = bench.send()
    bench.offer(3)
    bench.delivery.give_back(payload)
    bench.delivery.close(bench.now)
    bench.offer(4)
    assert bench.finished().dropped == {"shutdown": 4}


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_halves_keep_what_they_must(compression: str) -> None:
    (payload,) = encode_batch(
        sealed_batch([1, 2, 3], position=4, opened_at=9.0),
        OTLP_HTTP.encoder,
        shard=0,
        compression=compression,  # type: ignore[arg-type]
        bytes_max=10**6,
        bodies=SharedBodyCache(),
    )
    payload.attempts = 2
    halves = split_in_two(payload, OTLP_HTTP.encoder)
    assert [half.points for half in halves] == [2, 1]
    for half in halves:
        assert (half.position, half.created_at, half.attempts) == (4, 9.0, 2)
        assert half.encoding == compression
    assert split_in_two(halves[1], OTLP_HTTP.encoder) == []


def test_log_lines_follow_changes_of_state_alone() -> None:
    bench = Bench(replace(SINK, retry=RetrySettings(attempts_max=1)))
    for _ in range(50):
        bench.offer(1)
        bench.settle(verdict.Delivered())
    assert bench.notes == []
    for _ in range(50):
        bench.offer(1)
        bench.settle(UNAVAILABLE)
        bench.advance(2.0)
        bench.settle(UNAVAILABLE)
    assert [note.good for note in bench.notes] == [False, False]
    assert "not delivering" in bench.notes[0].text
    assert "losing data" in bench.notes[1].text
    bench.advance(LOG_INTERVAL_S_MIN)
    for _ in range(50):
        bench.offer(1)
        bench.settle(verdict.Delivered())
    assert [note.good for note in bench.notes] == [False, False, True]


def test_flapping_is_one_line_an_interval() -> None:
    health = Health()
    lines = 0
    for second in range(300):
        note = health.delivered(second) if second % 2 else health.failed("why", second)
        lines += note is not None
    assert lines <= 300 / LOG_INTERVAL_S_MIN + 1


def test_reprs_name_the_state() -> None:
    bench = Bench()
    bench.offer(1)
    assert "healthy" in repr(bench.delivery)
    assert "1 requests" in repr(bench.delivery.queue)
    assert "queued 1" in repr(bench.delivery.ledger)
    assert "1 points" in repr(bench.send())
