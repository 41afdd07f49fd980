"""Whole sinks against real endpoints: order, splits, rotation, shutdown, troublesome neighbours."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
import trustme

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import (
    Authentication,
    Batch,
    ClientTls,
    Queue,
    RetrySettings,
    SecretRef,
)
from relay.sink import request_size
from relay.sink.http.client import HttpRequest, Transport
from relay.sink.http.response import HttpResponse
from relay.sink.open_batches import UNBATCHED_POINTS_MAX
from relay.sink.otlp_http import OtlpEncoder
from relay.sink.retry.backoff import BACKOFF_S_MAX
from relay.sink.steps import Now, Sleep
from tests.kit.http.hostile_server import (
    HostileServer,
    answer_garbage,
    answer_without_end,
    disconnect,
    never_answer,
    redirect_to,
    reset_inside_body,
)
from tests.kit.http.otlp_server import OtlpServer, Received, Reply, partial_success
from tests.kit.sink_harness import BACKOFF_S, SinkHarness, running_sink, sink_config
from tests.own_time import patience

TOKEN = Authentication("bearerToken", SecretRef("s", "token"))


def scripted(*statuses: int, headers: dict[str, str] | None = None) -> Callable[[Received], Reply]:
    """Answer the statuses one after another, then 200 for ever."""
    left = list(statuses)
    return lambda _: Reply(left.pop(0), headers=headers or {}) if left else Reply()


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_delivers_what_it_was_given(compression: str) -> None:
    async with (
        OtlpServer() as server,
        running_sink(
            sink_config(server.url, compression=compression, headers={"X-Scope-OrgID": "7"})
        ) as harness,
    ):
        harness.offer(1.5, 2.5)
        statistics = await harness.finished()
        (received,) = server.received
    assert received.values() == [1.5, 2.5]
    assert received.path == "/v1/metrics"
    assert received.headers["Content-Type"] == "application/x-protobuf"
    assert received.headers.get("Content-Encoding", "none") == compression
    assert received.headers["X-Scope-OrgID"] == "7"
    assert "Authorization" not in received.headers
    assert statistics.ledger.delivered == 2
    assert statistics.requests == {"delivered": 1}
    assert statistics.bytes_sent == len(received.body)
    assert statistics.last_success_at is not None
    assert statistics.state == "healthy"


async def test_order_is_kept_through_retries() -> None:
    async with (
        OtlpServer(scripted(503, 200, 429, 502, 504)) as server,
        running_sink(sink_config(server.url)) as harness,
    ):
        for value in range(8):
            harness.offer(value)
        statistics = await harness.finished()
        assert server.values == list(range(8))
    assert statistics.ledger.delivered == 8
    assert statistics.requests == {"delivered": 8, "retry": 4}


async def test_retry_after_as_a_date_is_waited_for() -> None:
    # The date has whole seconds: two from now are at least one away.
    date = formatdate(time.time() + 2, usegmt=True)
    async with (
        OtlpServer(scripted(503, headers={"Retry-After": date})) as server,
        running_sink(sink_config(server.url)) as harness,
    ):
        harness.offer(1)
        await server.wait_until(lambda: len(server.received) == 1)
        await harness.until(lambda s: s.requests == {"retry": 1})
        step = harness.worker._delivery.next_step(0, Now(time.time(), time.monotonic()))
        assert isinstance(step, Sleep)
        assert step.delay_s is not None
        assert 50 * BACKOFF_S < step.delay_s <= 2.0
        statistics = harness.worker.statistics()
        assert statistics.queue.in_flight == 0
        assert statistics.state == "failing"


async def test_too_large_is_split_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_size, "FLOOR_BYTES", 1)

    def answer(received: Received) -> Reply:
        return Reply(413) if len(received.values()) > 3 else Reply()

    async with OtlpServer(answer) as server, running_sink(sink_config(server.url)) as harness:
        harness.offer(*range(10))
        first = await harness.finished()
        harness.offer(*range(10, 20))
        second = await harness.finished()
        assert server.values == list(range(20))
    assert second.ledger.delivered == 20
    assert first.requests["split"] == second.requests["split"] == 2  # 10, then one 5
    assert second.too_large_bytes is not None


async def test_partial_success_and_warnings() -> None:
    replies = [partial_success(1, "out of order"), partial_success(0, "deprecated")]
    async with (
        OtlpServer(lambda _: replies.pop(0)) as server,
        running_sink(sink_config(server.url)) as harness,
    ):
        harness.offer(1, 2, 3)
        harness.offer(4)
        statistics = await harness.finished()
        assert len(server.received) == 2
    assert statistics.ledger.delivered == 3
    assert statistics.ledger.rejected == {"partial_success": 1}
    assert statistics.last_error is not None
    assert "out of order" in statistics.last_error.text
    assert statistics.last_warning is not None
    assert statistics.last_warning.text == "deprecated"


async def test_rotated_secret_ends_the_pause() -> None:
    def answer(received: Received) -> Reply:
        good = received.headers["Authorization"] == "Bearer sesame-two"
        return Reply() if good else Reply(401, b"no such token: sesame-one")

    async with (
        OtlpServer(answer) as server,
        running_sink(sink_config(server.url, authentication=TOKEN)) as b,
    ):
        b.offer(1)
        paused = await b.until(lambda s: bool(s.paused) and s.requests["unauthorized"] > 1)
        assert paused.state == "paused"
        assert "sesame" not in repr(paused)
        assert "[redacted]" in paused.paused
        del b.secrets["token"]
        await b.until(lambda s: "no key" in s.paused)
        b.secrets["token"] = "sesame-two"
        statistics = await b.finished()
        assert server.values == [1]
    assert statistics.paused == ""
    assert statistics.ledger.delivered == 1


async def test_tls_material_is_read_again_after_tls_failed() -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    config = sink_config("", tls=ClientTls(ca=SecretRef("ca")))
    async with OtlpServer(tls=context) as server:
        config = replace(config, endpoint=replace(config.endpoint, url=server.url))
        async with running_sink(config) as harness:
            harness.secrets["ca.crt"] = stranger.cert_pem.bytes().decode()
            harness.offer(1)
            await harness.until(lambda s: s.last_error is not None and "TLS" in s.last_error.text)
            harness.secrets["ca.crt"] = authority.cert_pem.bytes().decode()
            assert (await harness.finished()).ledger.delivered == 1


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "http_404"), (500, "http_500"), (501, "http_501")]
)
async def test_permanent_answers_are_not_retried(status: int, reason: str) -> None:
    async with (
        OtlpServer(scripted(status)) as server,
        running_sink(sink_config(server.url)) as harness,
    ):
        harness.offer(1, 2)
        harness.offer(3)
        statistics = await harness.finished()
        assert server.values == [3]
    assert statistics.ledger.rejected == {reason: 2}
    assert statistics.ledger.delivered == 1


async def test_a_point_that_the_endpoint_cannot_read_costs_no_other_one() -> None:
    server = OtlpServer(lambda request: Reply(400 if 3 in request.values() else 200))
    async with server, running_sink(sink_config(server.url)) as harness:
        harness.offer(*range(10))
        harness.offer(10)
        statistics = await harness.finished()
        assert server.values == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert statistics.ledger.rejected == {"http_400": 1}
    assert statistics.ledger.delivered == 10
    assert statistics.bisections == 1


async def test_hostile_endpoints_cost_only_their_own_queue() -> None:
    behaviours = [
        never_answer,
        answer_garbage,
        answer_without_end,
        reset_inside_body,
        disconnect,
        redirect_to("http://127.0.0.1:1/"),
    ]
    async with OtlpServer() as healthy, Transport(allow_private=True) as transport:
        servers = [HostileServer(behaviour) for behaviour in behaviours]
        harnesses = [SinkHarness(sink_config(healthy.url), transport)]
        for server in servers:
            await server.__aenter__()
            config = replace(sink_config(server.url), queue=Queue(bytes_max=500))
            config = replace(config, endpoint=replace(config.endpoint, timeout_s=0.05))
            harnesses.append(SinkHarness(config, transport))
        for harness in harnesses:
            harness.worker.start()
        for value in range(30):
            for harness in harnesses:
                harness.offer(value)
        statistics = await harnesses[0].finished()
        assert statistics.ledger.delivered == 30
        assert statistics.requests == {"delivered": 30}
        assert healthy.values == list(range(30))
        for harness in harnesses[1:]:
            await harness.until(lambda s: sum(s.requests.values()) > 1)
            hostile = harness.worker.statistics()
            assert hostile.ledger.offered == 30
            assert hostile.ledger.delivered == 0
            assert hostile.queue.bytes <= 500
            assert hostile.internal_errors == 0
        await asyncio.gather(*(harness.worker.close() for harness in harnesses))
        for harness in harnesses:
            assert harness.worker.statistics().ledger.queued == 0
            assert harness.holds.total == 0
        for server in servers:
            await server.__aexit__(None, None, None)


async def test_forbidden_address_is_kept_and_tried_again() -> None:
    async with (
        OtlpServer() as server,
        running_sink(sink_config(server.url), allow_private=False) as harness,
    ):
        harness.offer(1)
        statistics = await harness.until(lambda s: s.requests.get("retry", 0) > 1)
        assert server.received == []
    assert statistics.ledger.queued == 1
    assert statistics.last_error is not None
    assert "127.0.0.1" not in statistics.last_error.text


async def test_expiry_does_not_wait_for_the_endpoint() -> None:
    config = replace(
        sink_config("http://127.0.0.1:1/"), retry=RetrySettings(backoff_s=BACKOFF_S_MAX)
    )
    async with running_sink(replace(config, queue=Queue(age_max_s=0.2))) as harness:
        harness.offer(1, 2)
        assert (await harness.finished()).ledger.expired == 2


async def test_block_holds_senders_back_and_drops_nothing() -> None:
    config = replace(
        sink_config("http://127.0.0.1:1/"), queue=Queue(bytes_max=300, overflow="block")
    )
    async with running_sink(config) as harness:
        assert not harness.worker.full
        for value in range(5):
            harness.offer(value)
        assert harness.worker.full
        assert harness.worker.statistics().ledger.queued == 5


async def test_lanes_send_side_by_side() -> None:
    both = asyncio.Barrier(2)

    async def answer(_: Received) -> Reply:
        async with patience(5.0):
            await both.wait()
        return Reply()

    async with (
        OtlpServer(answer) as server,
        running_sink(sink_config(server.url, concurrency=2)) as harness,
    ):
        assert [shard.shard for shard in harness.worker.shards] == [0, 1]
        harness.offer(1, shard=0)
        harness.offer(2, shard=1)
        assert (await harness.finished()).ledger.delivered == 2


async def test_drain_sends_what_is_left() -> None:
    async with (
        OtlpServer(scripted(503)) as server,
        running_sink(sink_config(server.url)) as harness,
    ):
        for value in range(5):
            harness.offer(value)
        await harness.worker.drain(5.0)
        statistics = await harness.finished()
        assert server.values == list(range(5))
        harness.offer(9)
        assert harness.worker.statistics().ledger.dropped == {"shutdown": 1}
    assert statistics.ledger.delivered == 5


async def test_batches_that_are_not_packed_yet_are_in_the_account() -> None:
    async with (
        OtlpServer() as server,
        running_sink(sink_config(server.url, concurrency=2)) as harness,
    ):
        harness.use_up_turn()
        for value in range(4):
            harness.offer(value, shard=value % 2)
        statistics = harness.worker.statistics()
        assert statistics.ledger.queued == statistics.ledger.offered == 4
        assert statistics.queue.payloads == 0
        assert statistics.oldest_point_age_s is not None
        assert harness.worker.oldest_positions(100) == (1, 2)
        assert harness.worker.tick(), "there is something to do"
        assert (await harness.finished()).ledger.delivered == 4
        assert harness.worker.oldest_positions(100) == (100, 100)
    assert sorted(server.values) == list(range(4))


async def test_another_configuration_meets_nothing_that_is_not_packed() -> None:
    async with (
        OtlpServer() as server,
        running_sink(sink_config(server.url, concurrency=2)) as harness,
    ):
        harness.use_up_turn()
        harness.offer(0, shard=0)
        harness.offer(1, shard=1)
        harness.worker.reconfigure(sink_config(server.url))
        assert harness.worker.statistics().queue.payloads == 2
        harness.offer(2)
        assert (await harness.finished()).ledger.delivered == 3
    assert sorted(server.values[:2]) == [0, 1]
    assert server.values[2] == 2


@pytest.mark.parametrize("end", ["drain", "leave", "close"])
async def test_the_end_does_not_forget_what_is_not_packed(end: str) -> None:
    async with OtlpServer() as server, running_sink(sink_config(server.url)) as harness:
        harness.use_up_turn()
        harness.offer(1, 2)
        harness.offer(3)
        assert harness.worker.statistics().queue.payloads == 0
        await {
            "drain": lambda: harness.worker.drain(5.0),
            "leave": lambda: harness.worker.remove(5.0),
            "close": lambda: harness.worker.close("removed"),
        }[end]()
        ledger = (await harness.finished()).ledger
        # Closing is no promise to send, but what was not sent is dropped, in the account.
        assert ledger.delivered + sum(ledger.dropped.values()) == 3
        if end != "close":
            assert server.values == [1, 2, 3]


async def test_a_batch_that_cannot_be_packed_is_given_up_in_the_account(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: OtlpEncoder, sealed: SealedBatch) -> bytes:
        raise ZeroDivisionError

    async with OtlpServer() as server, running_sink(sink_config(server.url)) as harness:
        with monkeypatch.context() as patch:
            patch.setattr(OtlpEncoder, "encode", broken)
            harness.offer(1, 2)
        harness.offer(3)
        statistics = await harness.finished()
    assert server.values == [3]
    assert statistics.ledger.dropped == {"internal_error": 2}
    assert statistics.internal_errors == 1
    assert sum("Traceback" in (record.exc_text or "") for record in caplog.records) == 1


async def test_shutdown_in_mid_flight_loses_no_account() -> None:
    async with (
        HostileServer(never_answer) as server,
        running_sink(sink_config(server.url)) as harness,
    ):
        harness.offer(1, 2)
        harness.offer(3)
        statistics = await harness.until(lambda s: s.queue.in_flight == 1)
        assert statistics.oldest_point_age_s is not None
        await harness.worker.drain(0.05)
        statistics = await harness.finished()
    assert statistics.ledger.dropped == {"shutdown": 3}


async def test_a_bug_costs_no_data(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    post = Transport.post
    failures = [ZeroDivisionError("first"), ZeroDivisionError("second")]

    async def faulty(self: Transport, request: HttpRequest) -> HttpResponse:
        if failures:
            raise failures.pop()
        answer = await post(self, request)
        assert isinstance(answer, HttpResponse)
        return answer

    monkeypatch.setattr(Transport, "post", faulty)
    async with OtlpServer() as server, running_sink(sink_config(server.url)) as harness:
        harness.offer(1)
        statistics = await harness.finished()
        assert server.values == [1]
    assert statistics.internal_errors == 2
    assert statistics.ledger.delivered == 1
    assert sum("Traceback" in (record.exc_text or "") for record in caplog.records) == 2


async def test_a_bug_in_settling_gives_the_payload_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.sink.worker.BUG_PAUSE_S", 0.0)
    async with OtlpServer() as server, running_sink(sink_config(server.url)) as harness:
        delivery, failures = harness.worker._delivery, [ZeroDivisionError()]

        class FailsOnce:
            """The delivery, whose methods cannot be replaced, but for its first answer."""

            def on_response(self, *arguments: Any) -> None:
                if failures:
                    raise failures.pop()
                delivery.on_response(*arguments)

            def __getattr__(self, name: str) -> Any:
                return getattr(delivery, name)

        monkeypatch.setattr(harness.worker, "_delivery", FailsOnce())
        harness.offer(1)
        statistics = await harness.finished()
        assert server.values == [1, 1]
    assert statistics.internal_errors == 1
    assert statistics.ledger.delivered == 1


async def test_logs_are_few_and_name_the_sink(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relay.sink")
    async with (
        OtlpServer(scripted(*[503] * 5)) as server,
        running_sink(sink_config(server.url, authentication=TOKEN)) as harness,
    ):
        for value in range(20):
            harness.offer(value)
        await harness.finished()
    (record,) = [each for each in caplog.records if each.name == "relay.sink"]
    assert record.levelno == logging.WARNING
    assert "exporter ns/name, sink out: not delivering: HTTP 503" in record.getMessage()
    assert record.__dict__["exporter"] == "ns/name"
    assert "sesame" not in caplog.text


async def test_open_batches_follow_the_batch_settings() -> None:
    async with Transport(allow_private=True) as transport:
        config = sink_config("http://127.0.0.1:1/", concurrency=3)
        batched = SinkHarness(replace(config, batch=Batch(points_max=7)), transport).worker
        unbatched = SinkHarness(replace(config, batch=Batch(enabled=False)), transport).worker
    assert [shard.limit for shard in batched.shards] == [7, 7, 7]
    assert [shard.limit for shard in unbatched.shards] == [UNBATCHED_POINTS_MAX] * 3
    assert repr(batched) == "<SinkWorker ns/name out healthy>"
