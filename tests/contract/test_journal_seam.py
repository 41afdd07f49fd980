"""A whole relay over a journal that is not the one of files: nothing else is exchanged."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from relay.control.durability import open_storage
from tests.contract.memory_journal import Medium, MemoryJournal
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.ingest_server import eventually
from tests.kit.stored_relay import made, manifest, running


def busy(_: Received) -> Reply:
    return Reply(503)


async def test_a_relay_replays_from_a_journal_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = Medium()
    media = [medium]

    def journal(_directory: Path, _checkpoint: Path, **options: object) -> MemoryJournal:
        bytes_max = options["bytes_max"]
        assert isinstance(bytes_max, int)
        return MemoryJournal(media[-1], bytes_max=bytes_max)

    monkeypatch.setattr(open_storage, "FileJournal", journal)
    async with OtlpServer(busy) as server:
        async with running(made(tmp_path, manifest("all", server.url))) as sender:
            for _ in range(3):
                assert await sender.send() == 204
            medium.failing = True
            assert await sender.send() == 204, "kept in memory"
            assert any("the medium fails" in each for each in await sender.degraded())
            medium.failing = False
            crashed = copy.deepcopy(medium)
        assert [each.position for each in crashed.records] == [0, 1, 2]
        media.append(crashed)
        server.answer = lambda _: Reply()
        server.taken.clear()
        again = made(tmp_path, manifest("all", server.url), data=tmp_path / "elsewhere")
        async with running(again) as sender:
            await server.wait_until(lambda: len(server.values) >= 30)
            assert server.values == [float(n) for n in range(30)]
            await eventually(lambda: not crashed.records, timeout_s=20.0)
            assert sender.ledger("all")["balanced"]
