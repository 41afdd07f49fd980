"""A sink that is too slow is behind, and its reason is arithmetic."""

from __future__ import annotations

from relay.sink.reporting.throughput import Throughput


def watched(throughput: Throughput, *, seconds: int, per_s: int, oldest_age_s: float) -> int:
    """Look once a second while so many points come a second; returns those offered."""
    for second in range(seconds + 1):
        throughput.watch(
            float(second),
            offered=second * per_s,
            queued=130_000,
            oldest_age_s=oldest_age_s,
            batch_timeout_s=5.0,
        )
    return seconds * per_s


def test_a_sink_that_loses_ground_says_what_can_leave_at_most() -> None:
    throughput = Throughput("s")
    for _ in range(40):
        throughput.answered(8.0, 500)
    watched(throughput, seconds=600, per_s=350, oldest_age_s=371.0)
    assert throughput.behind
    assert throughput.explain(1, 130_000) == (
        "130,000 points wait, the oldest for 6m11s: 1 shard × 500 points / 8 s a request = at most "
        "62 points/s; 350 arrive: the queue grows; raise batch.maxSize or concurrency, or send it "
        "less"
    )


def test_a_sink_that_catches_up_says_when() -> None:
    throughput = Throughput("s")
    for _ in range(40):
        throughput.answered(0.5, 500)
    watched(throughput, seconds=600, per_s=350, oldest_age_s=100.0)
    text = throughput.explain(2, 130_000)
    assert "2 shards × 500 points" in text
    assert "= at most 2,000 points/s; 350 arrive" in text
    assert text.endswith("caught up in about 1m19s")


def test_a_young_queue_is_not_behind_and_an_emptied_one_is_no_longer() -> None:
    throughput = Throughput("s")
    throughput.answered(1.0, 100)
    watched(throughput, seconds=10, per_s=10, oldest_age_s=64.0)
    assert throughput.behind == ""
    watched(throughput, seconds=10, per_s=10, oldest_age_s=66.0)
    assert throughput.behind
    watched(throughput, seconds=10, per_s=10, oldest_age_s=26.0)
    assert throughput.behind, "it has not caught up yet"
    watched(throughput, seconds=10, per_s=10, oldest_age_s=24.0)
    assert throughput.behind == ""
    assert throughput.explain(1, 0) == ""


def test_a_sink_that_never_had_an_answer_has_no_arithmetic() -> None:
    throughput = Throughput("s")
    watched(throughput, seconds=1, per_s=1, oldest_age_s=90.0)
    assert throughput.explain(1, 5) == "130,000 points wait, the oldest for 1m30s"


def test_requests_and_deliveries_are_counted_by_how_long_they_took() -> None:
    throughput = Throughput("s")
    for seconds in (0.05, 0.1, 1.0, 20.0):
        throughput.answered(seconds, 1)
    throughput.delivered(-1.0)
    throughput.delivered(40.0)
    found = throughput.statistics(1, 0)
    assert found.requests.counts == (2, 0, 1, 0, 1)
    assert found.requests.sum_s == 21.15
    assert found.latency.counts == (1, 0, 0, 1, 0, 0, 0)


def test_an_output_of_logs_tells_log_records() -> None:
    throughput = Throughput("s/logs")
    throughput.answered(8.0, 500)
    watched(throughput, seconds=600, per_s=350, oldest_age_s=371.0)
    told = throughput.explain(1, 9)
    assert told.startswith("130,000 log records wait")
    assert "500 log records / 8 s a request" in told
    assert "points" not in told
