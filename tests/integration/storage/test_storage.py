"""What was acknowledged is delivered: after a crash, beside a bad disk, within its limits."""

from __future__ import annotations

import asyncio
import errno
import zlib
from collections import Counter
from pathlib import Path

import pytest

from relay.runtime.errors import ConfigError
from relay.storage.journal.checkpoint import Checkpoint, encode_checkpoint
from relay.storage.journal.record import SEGMENT_KIND
from relay.storage.log.frame import encode_file_header
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.ingest_server import eventually
from tests.kit.processes import get_metrics
from tests.kit.storage.faulty_disk import FaultyDisk
from tests.kit.stored_relay import (
    body_of,
    checkpoint_saved,
    crash_image,
    made,
    manifest,
    metadata_body,
    running,
)


def busy(_: Received) -> Reply:
    return Reply(503)


async def test_what_a_crash_left_undelivered_is_delivered_in_order(tmp_path: Path) -> None:
    async with OtlpServer(busy) as server:
        relay = made(tmp_path, manifest("all", server.url))
        async with running(relay) as sender:
            for _ in range(5):
                assert await sender.send() == 204
            image = crash_image(tmp_path / "data", tmp_path / "image")
        server.answer = lambda _: Reply()
        server.taken.clear()
        again = made(tmp_path, manifest("all", server.url), data=image)
        async with running(again) as sender:
            await server.wait_until(lambda: len(server.values) >= 50)
            assert server.values == [float(n) for n in range(50)]
            await eventually(lambda: sender.ledger("all")["delivered"] == 50)
            assert sender.ledger("all")["balanced"]
            # Positions go on behind those of the first run.
            assert await sender.send() == 204
            await server.wait_until(lambda: len(server.values) == 60)


async def test_each_sink_gets_only_what_it_had_not_finished(tmp_path: Path) -> None:
    async with OtlpServer() as good, OtlpServer(busy) as bad:
        manifests = manifest("good", good.url), manifest("bad", bad.url)
        async with running(made(tmp_path, *manifests)) as sender:
            for _ in range(20):
                assert await sender.send() == 204
            await good.wait_until(lambda: len(good.values) == 200)
            await eventually(lambda: sender.ledger("good")["queued"] == 0)
            relay = sender.relay
            await checkpoint_saved(relay)
            image = crash_image(tmp_path / "data", tmp_path / "image")
        bad.answer = lambda _: Reply()
        bad.taken.clear()
        async with running(made(tmp_path, *manifests, data=image)) as sender:
            await bad.wait_until(lambda: len(bad.values) == 200)
            assert bad.values == [float(n) for n in range(200)]
            await eventually(lambda: not sender.relay._replay.active)
            assert len(good.values) == 200, "not once more"
            for name in ("good", "bad"):
                assert sender.ledger(name)["balanced"], sender.ledger(name)
            assert sender.ledger("good")["matched"] == 0


async def test_a_clean_stop_leaves_nothing_to_replay(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url, timeout="10m"))
        async with running(relay) as sender:
            assert await sender.send() == 204
            assert server.received == []
        assert len(server.values) == 10
        assert list((tmp_path / "data/journal").iterdir()) == []
        async with running(made(tmp_path, manifest("all", server.url))) as sender:
            await eventually(lambda: not sender.relay._replay.active)
            assert sender.relay._replay.statistics().requests == 0
        assert len(server.values) == 10


async def test_requests_during_replay_wait_their_turn(tmp_path: Path) -> None:
    async with OtlpServer(busy) as server:
        async with running(made(tmp_path, manifest("all", server.url))) as sender:
            for _ in range(60):
                assert await sender.send() == 204
            image = crash_image(tmp_path / "data", tmp_path / "image")
        server.answer = lambda _: Reply()
        server.taken.clear()
        again = made(tmp_path, manifest("all", server.url, timeout="200ms"), data=image)
        async with running(again) as sender:
            replay = again._replay
            again._admission._memory_bytes_max = 0  # crowded: the replay stands still
            await eventually(lambda: again._admission.crowded or not replay.active)
            again._admission._memory_bytes_max = 1 << 30
            sender.following = 600
            sends = [asyncio.ensure_future(sender.send()) for _ in range(5)]
            assert set(await asyncio.gather(*sends)) == {204}
            await server.wait_until(lambda: len(server.values) >= 650)
            assert server.values[:600] == [float(n) for n in range(600)]
            assert Counter(server.values) == Counter(float(n) for n in range(650))
            assert await sender.ready() == []


async def test_a_faulty_request_in_a_replay_is_answered_at_once(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url))
        async with running(relay) as sender:
            await eventually(lambda: not relay._replay.active)
            relay._replay.active = True
            assert any("replaying" in reason for reason in await sender.ready())
            assert await sender.post(b"\x03\x08abc") == 400
            # A disk that fails just then: order forbids to take the request into memory alone.
            relay._storage.journal._failure = "broken"
            assert await sender.send() == 503
            relay._storage.journal._failure = ""
            relay._replay.active = False


async def test_only_what_somebody_wants_is_journaled(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url, query="numbered"))
        async with running(relay) as sender:
            await eventually(lambda: not relay._replay.active)
            assert await sender.send(name="unwanted") == 204
            assert await sender.post(b"\x03\x08abc") == 400
            assert relay._storage.journal.statistics().records == 0
            assert await sender.send() == 204
            assert relay._storage.journal.statistics().records == 1


async def test_a_full_disk_costs_no_data_and_is_said_loudly(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url), disk=disk)
        async with running(relay) as sender:
            await eventually(lambda: not relay._replay.active)
            relay._storage.journal._retry_s = 0.001
            assert await sender.send() == 204
            disk.room_bytes = 10
            assert await sender.send() == 204
            assert await sender.send() == 204
            assert "No space left on device" in str(await sender.degraded())
            await server.wait_until(lambda: len(server.values) == 30)
            assert relay._storage.journal.statistics().unjournaled_requests == 2
            disk.room_bytes = None
            await eventually(lambda: not relay._storage.journal.trouble)
            assert await sender.send() == 204
            assert relay._storage.journal.statistics().unjournaled_requests == 2
            await server.wait_until(lambda: len(server.values) == 40)


async def test_a_disk_that_is_read_only_keeps_nobody_from_starting(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.write_error = errno.EROFS
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url), disk=disk)
        async with running(relay) as sender:
            assert await sender.send() == 204
            await server.wait_until(lambda: len(server.values) == 10)
            assert "Read-only file system" in str(await sender.degraded())


async def test_the_journal_is_trimmed_as_data_is_delivered(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url), bytes_max=1 << 20)
        async with running(relay) as sender:
            for part in range(1, 6):
                for _ in range(8):  # some 200 kB: a sender that waits for nobody may fill it
                    assert await sender.send(2000) == 204
                sent = part * 16_000
                await server.wait_until(lambda sent=sent: len(server.values) == sent, timeout_s=30)
                await eventually(lambda: len(relay._storage.journal.extent.spans) <= 1)
            statistics = relay._storage.journal.statistics()
            assert statistics.record_bytes > 1 << 18, "more than the journal may hold"
            assert statistics.unjournaled_requests == 0


async def test_no_more_is_taken_than_memory_has_room_for(tmp_path: Path) -> None:
    async with OtlpServer(busy) as server:
        relay = made(tmp_path, manifest("all", server.url, timeout="10m"), memory_bytes_max=1 << 20)
        async with running(relay) as sender:
            await eventually(lambda: not relay._replay.active)
            relay._reconciler.concede = lambda *_: None
            relay._memory.used += 3 << 18
            assert await sender.send() == 503
            relay._memory.used -= 3 << 18
            assert await sender.send() == 204


async def test_a_second_relay_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url))
        async with running(relay):
            with pytest.raises(ConfigError, match="in use by another relay, process"):
                await made(tmp_path, manifest("all", server.url)).start()
        async with running(made(tmp_path, manifest("all", server.url))):
            pass


async def test_another_format_is_refused(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        async with running(made(tmp_path, manifest("all", server.url))):
            pass
        line = b"relay-data 4"
        (tmp_path / "data/format").write_bytes(b"%s %08x\n" % (line, zlib.crc32(line)))
        with pytest.raises(ConfigError, match="has format 4 and this build reads formats 1 to 3"):
            await made(tmp_path, manifest("all", server.url)).start()


async def test_files_of_another_format_are_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / f"data/journal/{7:020d}.seg"
    path.parent.mkdir(parents=True)
    head = bytearray(encode_file_header(SEGMENT_KIND, 7))
    head[8] = 9
    head[28:] = zlib.crc32(head[:28]).to_bytes(4, "little")
    path.write_bytes(head)
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url))
        with pytest.raises(ConfigError, match="format 9; this build reads formats 1 to 3"):
            await relay.start()
        assert path.read_bytes() == head
        path.unlink()
        async with running(made(tmp_path, manifest("all", server.url))):
            pass  # nothing was left locked


async def test_status_and_metrics_tell_of_the_journal(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url), disk=disk)
        async with running(relay) as sender:
            assert await sender.send() == 204
            disk.room_bytes = 0
            assert await sender.send() == 204
            journal = (await sender.status())["storage"]["journal"]
            assert journal["unjournaledRequests"] == 1
            assert journal["trouble"] == "No space left on device"
            assert journal["replay"] == {
                "active": False,
                "requests": 0,
                "unreplayable": 0,
                "givenUp": 0,
                "leftBytes": 0,
            }
            metrics = await get_metrics(f"http://{relay.admin_address}/metrics")
            assert metrics['relay_journal_requests_total{outcome="written"}'] == 1
            assert metrics['relay_journal_requests_total{outcome="unjournaled"}'] == 1
            assert metrics['relay_storage_degraded{part="journal"}'] == 1
            assert metrics["relay_memory_bytes_max"] == 3 << 28


async def test_replayed_samples_are_read_with_what_was_known(tmp_path: Path) -> None:
    async with OtlpServer(busy) as server:
        relay = made(tmp_path, manifest("all", server.url))
        async with running(relay) as sender:
            assert await sender.post(metadata_body("numbered")) == 204
            await eventually((tmp_path / "data/knowledge").exists)
            await eventually(lambda: relay._checkpointer.saved.learned == 1)
            await eventually(lambda: not relay._storage.journal._saving)
            assert await sender.send() == 204
            image = crash_image(tmp_path / "data", tmp_path / "image")
        server.answer = lambda _: Reply()
        server.taken.clear()
        async with running(made(tmp_path, manifest("all", server.url), data=image)) as sender:
            await server.wait_until(lambda: len(server.values) == 10)
            assert sender.relay._replay.statistics().requests == 1, "the metadata is not in there"
        (metric, *_) = server.taken[0].message.resource_metrics[0].scope_metrics[0].metrics
        assert metric.WhichOneof("data") == "sum"


async def test_damaged_knowledge_is_learned_anew(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        async with running(made(tmp_path, manifest("all", server.url))) as sender:
            assert await sender.post(metadata_body("numbered")) == 204
        path = tmp_path / "data/knowledge"
        path.write_bytes(path.read_bytes()[:-1])
        async with running(made(tmp_path, manifest("all", server.url))) as sender:
            assert await sender.send() == 204
            await server.wait_until(lambda: len(server.values) == 10)


async def test_a_body_is_kept_as_it_came(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url, timeout="10m"))
        async with running(relay) as sender:
            body = body_of(range(3))
            assert await sender.post(body) == 204
            (segment,) = (tmp_path / "data/journal").iterdir()
            assert segment.read_bytes().count(body) == 1


async def test_who_is_absent_from_a_replay_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OtlpServer(busy) as server, OtlpServer() as good:
        both = manifest("a", server.url), manifest("b", good.url)
        relay = made(tmp_path, *both)
        async with running(relay) as sender:
            for _ in range(3):
                assert await sender.send() == 204
            await checkpoint_saved(relay)
            image = crash_image(tmp_path / "data", tmp_path / "image")
        async with running(made(tmp_path, both[1], data=image)):
            pass
        (record,) = (r for r in caplog.records if "their sink does not run" in r.getMessage())
        assert (record.__dict__["exporter"], record.__dict__["requests"]) == ("default/a", 3)


async def test_who_had_all_at_the_checkpoint_and_is_absent_is_named_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What came between the last checkpoint and the end was its, as everybody's."""
    async with OtlpServer() as one, OtlpServer() as other:
        both = manifest("a", one.url), manifest("b", other.url)
        relay = made(tmp_path, *both)
        async with running(relay) as sender:
            assert await sender.send() == 204
            await checkpoint_saved(relay)
            following = relay._engine.offsets.following
            await eventually(
                lambda: all(
                    set(low) == {following} for low in relay._checkpointer.saved.lows.values()
                )
            )
            await eventually(lambda: not relay._storage.journal._saving)
            checkpoint = (tmp_path / "data" / "checkpoint").read_bytes()
            for _ in range(3):
                assert await sender.send() == 204
            image = crash_image(tmp_path / "data", tmp_path / "image")
        (image / "checkpoint").write_bytes(checkpoint)
        caplog.clear()
        again = made(tmp_path, both[1], data=image)
        async with running(again):
            assert again._replay.statistics().given_up == 3
        (record,) = (r for r in caplog.records if "their sink does not run" in r.getMessage())
        assert (record.__dict__["exporter"], record.__dict__["requests"]) == ("default/a", 3)


async def test_many_who_are_absent_are_summed_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OtlpServer() as server:
        here = manifest("b", server.url)
        async with running(made(tmp_path, here)) as sender:
            for _ in range(3):
                assert await sender.send() == 204
            image = crash_image(tmp_path / "data", tmp_path / "image")
        lows = {(f"default/gone-{number}", "s"): (1,) for number in range(150)}
        (image / "checkpoint").write_bytes(encode_checkpoint(Checkpoint(1, lows)))
        async with running(made(tmp_path, here, data=image)):
            pass
    named = [r.__dict__["requests"] for r in caplog.records if "their sink does not run" in r.msg]
    assert named == [2] * 100
    (record,) = (r for r in caplog.records if "given up for more sinks" in r.msg)
    assert (record.__dict__["sinks"], record.__dict__["requests"]) == (50, 2)


@pytest.mark.parametrize("waits", [False, True])
async def test_without_any_sink_what_came_after_the_checkpoint_is_said_to_be_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    """Or what was named there because it waited."""
    async with OtlpServer(busy) as server:
        async with running(made(tmp_path, manifest("a", server.url))) as sender:
            for _ in range(3):
                assert await sender.send() == 204
            image = crash_image(tmp_path / "data", tmp_path / "image")
        if waits:
            named = Checkpoint(next=3, waiting=((0, 2, b"a set of three requests"),))
            (image / "checkpoint").write_bytes(encode_checkpoint(named))
        else:
            (image / "checkpoint").unlink(missing_ok=True)
        async with running(made(tmp_path, data=image)):
            pass
        (record,) = (r for r in caplog.records if "no sink runs" in r.getMessage())
        assert record.__dict__["requests"] == 3
