"""A remote-write sink against receivers that behave as well-known ones do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay import __version__
from relay.config.exporter.types import (
    Authentication,
    BadRequest,
    PrometheusRemoteWrite,
    RemoteWriteVersion,
    RetrySettings,
    SecretRef,
    Sink,
)
from relay.sink.retry.bisection import REQUESTS_MAX, STREAK_MAX
from tests.kit.batches import RAW_BATCHES, START_MS
from tests.kit.http.otlp_server import Reply
from tests.kit.http.remote_write_server import Labels, RemoteWriteServer
from tests.kit.sink_harness import BACKOFF_S, SinkHarness, running_sink

VERSIONS: tuple[RemoteWriteVersion, ...] = ("1.0", "2.0")
each_version = pytest.mark.parametrize("version", VERSIONS)


def sink(
    url: str, version: RemoteWriteVersion = "1.0", *, bad_request: BadRequest = "unknown"
) -> Sink:
    """A sink that sends everything to a URL, and tries again soon."""
    endpoint = PrometheusRemoteWrite(url, version=version, timeout_s=2.0, bad_request=bad_request)
    return Sink("out", ("all",), endpoint, retry=RetrySettings(backoff_s=BACKOFF_S))


def offer(harness: SinkHarness, values: list[float], *, n: str = "0", at_ms: int = 0) -> None:
    """Offer a batch of samples of one series, a millisecond apart."""
    harness.offsets += 1
    harness.holds.hold(harness.offsets)
    samples = [(n, START_MS + at_ms + at, value) for at, value in enumerate(values)]
    batch = RAW_BATCHES.of(samples, position=harness.offsets, opened_at=4e9)
    harness.worker.offer(batch, 0)


def refuse(*bad: float):
    """Refuse samples of these values."""

    def refuses(_labels: Labels, _time_ms: int, value: float) -> str:
        return "out of bounds" if value in bad else ""

    return refuses


@each_version
async def test_requests_are_what_the_specification_wants(version: RemoteWriteVersion) -> None:
    async with RemoteWriteServer() as server, running_sink(sink(server.url, version)) as harness:
        offer(harness, [1.0, 2.0, 3.0])
        statistics = await harness.finished()
        (request,) = server.received  # the server checks types and versions itself
        assert request.version == version
        assert request.headers["User-Agent"] == f"relay/{__version__}"
        assert server.values == [1.0, 2.0, 3.0]
    assert statistics.ledger.delivered == 3
    assert statistics.state == "healthy"


async def test_headers_of_the_configuration_are_sent_and_may_name_the_sender() -> None:
    async with RemoteWriteServer() as server:
        config = sink(server.url)
        given = {"X-Scope-OrgID": "team", "user-agent": "fleet/1"}
        reference = Authentication("basicAuth", SecretRef("login"))
        endpoint = replace(config.endpoint, headers=given, authentication=reference)
        async with running_sink(replace(config, endpoint=endpoint)) as harness:
            harness.secrets |= {"username": "me", "password": "sesame"}
            offer(harness, [1.0])
            await harness.finished()
        (request,) = server.received
    assert request.headers["X-Scope-OrgID"] == "team"
    assert request.headers["User-Agent"] == "fleet/1"
    assert request.headers["Authorization"].startswith("Basic ")


async def test_a_rollback_is_bisected_to_the_bad_points() -> None:
    values = [float(n) for n in range(300)]
    async with (
        RemoteWriteServer(refuses=refuse(7.0, 250.0)) as server,
        running_sink(sink(server.url)) as harness,
    ):
        offer(harness, values)
        statistics = await harness.finished()
        assert server.values == [one for one in values if one not in (7.0, 250.0)]
        assert len(server.received) <= 1 + REQUESTS_MAX
    assert statistics.ledger.delivered == 298
    assert statistics.ledger.rejected == {"too_old": 2}
    assert statistics.requests["bisect"] > 2
    assert statistics.state == "healthy"
    assert statistics.last_error is not None
    assert "out of bounds" in statistics.last_error.text
    assert statistics.bisections == 1


async def test_batches_behind_a_bisected_one_keep_their_order() -> None:
    async with (
        RemoteWriteServer(refuses=refuse(3.0)) as server,
        running_sink(sink(server.url)) as harness,
    ):
        for number in range(6):
            offer(harness, [float(10 * number + n) for n in range(10)], at_ms=10 * number)
        statistics = await harness.finished()
        assert server.values == [float(n) for n in range(60) if n != 3]
    assert statistics.ledger.rejected == {"too_old": 1}


async def test_a_sink_whose_batches_are_all_bad_rests() -> None:
    async with (
        RemoteWriteServer(
            refuses=lambda _labels, _time, value: "out of bounds" * (value < 0)
        ) as server,
        running_sink(sink(server.url)) as harness,
    ):
        for number in range(STREAK_MAX + 5):
            offer(harness, [1.0, -1.0], at_ms=10 * number)
        statistics = await harness.finished()
    # Without a budget, too, what lies behind the last bad point of a round is delivered.
    assert statistics.ledger.delivered == STREAK_MAX + 5
    assert statistics.ledger.rejected == {"too_old": STREAK_MAX + 5}
    assert statistics.unsearched == 5


async def test_2_0_tells_how_many_were_refused() -> None:
    async with (
        RemoteWriteServer(refuses=refuse(2.0, 3.0)) as server,
        running_sink(sink(server.url, "2.0")) as harness,
    ):
        offer(harness, [1.0, 2.0, 3.0, 4.0])
        statistics = await harness.finished()
        assert len(server.received) == 1
        assert server.values == [1.0, 4.0]
    assert statistics.ledger.delivered == 2
    assert statistics.ledger.rejected == {"too_old": 2}


@pytest.mark.parametrize("bad_request", ["unknown", "partial"])
async def test_mimir_stores_the_rest_and_names_one(bad_request: BadRequest) -> None:
    async with (
        RemoteWriteServer("mimir", refuses=refuse(2.0, 3.0)) as server,
        running_sink(sink(server.url, bad_request=bad_request)) as harness,
    ):
        offer(harness, [1.0, 2.0, 3.0, 4.0])
        statistics = await harness.finished()
        assert len(server.received) == 1
        assert server.values == [1.0, 4.0]
    assert statistics.ledger.rejected == {"too_old": 1}
    assert statistics.last_error is not None
    assert "at least 1 of 4 points rejected" in statistics.last_error.text


async def test_mimir_refuses_2_0_and_the_status_says_what_to_set() -> None:
    async with (
        RemoteWriteServer("mimir") as server,
        running_sink(sink(server.url, "2.0")) as harness,
    ):
        offer(harness, [1.0])
        statistics = await harness.finished()
    assert statistics.ledger.rejected == {"http_415": 1}
    assert statistics.last_error is not None
    assert 'set protocolVersion: "1.0"' in statistics.last_error.text


async def test_victoriametrics_stores_nothing_of_2_0_and_the_ledger_says_so() -> None:
    async with (
        RemoteWriteServer("victoriametrics") as server,
        running_sink(sink(server.url, "2.0")) as harness,
    ):
        offer(harness, [1.0, 2.0])
        statistics = await harness.until(lambda one: not one.ledger.queued)
        assert statistics.ledger.rejected == {"not_version_2": 2}
        assert statistics.state == "failing"
        harness.worker.reconfigure(sink(server.url, "1.0"))
        offer(harness, [3.0, 4.0])
        await harness.finished()
        assert server.values == [3.0, 4.0]


@each_version
async def test_a_request_that_is_too_large_is_cut(version: RemoteWriteVersion) -> None:
    values = [float(n) for n in range(3000)]
    async with (
        RemoteWriteServer(bytes_max=40_000) as server,
        running_sink(sink(server.url, version)) as harness,
    ):
        offer(harness, values)
        offer(harness, values, n="1")
        statistics = await harness.finished()
        assert server.values == values + values
        assert sorted({one.status for one in server.received}) in ([204, 413], [204])
    assert statistics.ledger.delivered == 6000


async def test_a_captive_portal_takes_nothing() -> None:
    async with RemoteWriteServer() as server, running_sink(sink(server.url)) as harness:
        server.is_portal = True
        offer(harness, [1.0, 2.0])
        statistics = await harness.finished()
    assert statistics.ledger.rejected == {"invalid_response": 2}
    assert statistics.state == "failing"


async def test_retry_after_is_waited_for() -> None:
    async with RemoteWriteServer() as server, running_sink(sink(server.url)) as harness:
        server.script = [Reply(429, b"slow down", {"Retry-After": "1"}), Reply(500)]
        offer(harness, [1.0])
        offer(harness, [2.0], at_ms=5)
        statistics = await harness.finished()
        assert server.values == [1.0, 2.0]
        assert [one.status for one in server.received] == [429, 500, 204, 204]
    assert statistics.requests == {"retry": 2, "delivered": 2}


async def test_an_endpoint_that_hangs_is_a_timeout() -> None:
    async with RemoteWriteServer() as server:
        config = sink(server.url)
        endpoint = replace(config.endpoint, timeout_s=0.1)
        async with running_sink(replace(config, endpoint=endpoint)) as harness:
            server.hangs = True
            offer(harness, [1.0])
            await harness.until(lambda one: one.requests.get("retry", 0) > 0)
            server.hangs = False
            statistics = await harness.finished()
            assert server.values == [1.0]
    assert statistics.ledger.delivered == 1


async def test_no_message_shows_a_credential() -> None:
    async with RemoteWriteServer() as server:
        config = sink(server.url)
        reference = Authentication("bearerToken", SecretRef("s", "token"))
        endpoint = replace(config.endpoint, authentication=reference)
        async with running_sink(replace(config, endpoint=endpoint)) as harness:
            server.script = [Reply(404, b"no such token: sesame-one\nreally")]
            offer(harness, [1.0])
            statistics = await harness.finished()
    assert statistics.last_error is not None
    assert statistics.last_error.text == "HTTP 404 Not Found: no such token: [redacted] really"
