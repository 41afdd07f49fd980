"""A replay gives another object of a name nothing that the one before had not finished."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from relay.storage.journal.checkpoint import (
    Checkpoint,
    decode_checkpoint,
    encode_checkpoint,
    mark_of,
)
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.ingest_server import eventually
from tests.kit.stored_relay import checkpoint_saved, crash_image, made, manifest, running


def busy(_: Received) -> Reply:
    return Reply(503)


def of_uid(uid: str, url: str) -> str:
    """The manifest of Exporter ``a`` of some uid."""
    document = yaml.safe_load(manifest("a", url))
    document["metadata"]["uid"] = uid
    return yaml.safe_dump(document)


@pytest.mark.parametrize("again", ["one", "two"])
async def test_after_a_crash(tmp_path: Path, again: str, caplog: pytest.LogCaptureFixture) -> None:
    async with OtlpServer(busy) as server, OtlpServer() as other:
        relay = made(tmp_path, of_uid("one", server.url))
        async with running(relay) as sender:
            for _ in range(3):
                assert await sender.send() == 204
            await checkpoint_saved(relay)
            image = crash_image(tmp_path / "data", tmp_path / "image")
        caplog.clear()
        relay = made(tmp_path, of_uid(again, other.url), data=image)
        async with running(relay) as sender:
            await eventually(lambda: not relay._replay.active)
            assert await sender.send() == 204
            count = 40 if again == "one" else 10
            await other.wait_until(lambda: len(other.values) == count)
            assert sender.ledger("a")["balanced"]
        assert len(other.values) == count
        assert other.values[-10:] == list(range(10))
        told = [one for one in caplog.records if "their sink does not run" in one.getMessage()]
        assert len(told) == (again == "two")


def test_marks_are_kept_by_sink() -> None:
    marks = {("busy", "s"): mark_of("one"), ("idle", "s"): mark_of("two")}
    lows = {("busy", "s"): (3, 9), ("free", "s"): (4,), ("idle", "s"): (9,)}
    found = decode_checkpoint(encode_checkpoint(Checkpoint(9, lows, marks=marks)))
    assert found is not None
    assert found.marks == marks
    assert found.low("busy", "s", shards=2, mark=mark_of("one")) == (3, 9)
    assert found.low("busy", "s", shards=2, mark=mark_of("other")) == (9, 9)
    assert found.low("busy", "s", shards=2) == (3, 9), "its uid is unknown"
    assert found.low("free", "s", shards=1, mark=mark_of("one")) == (4,), "that of it was"
    without = decode_checkpoint(encode_checkpoint(Checkpoint(9, lows)))
    assert without is not None
    assert without.marks == {}
    assert mark_of("") == 0
