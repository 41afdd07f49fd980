"""A request that is read from disk while its sink is given another configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.sink.http.client import Transport
from relay.sink.queue.disk_index import Entry
from relay.sink.queue.payload import EncodedRequest
from relay.sink.retry.verdict import Delivered, Verdict
from relay.sink.steps import Send
from tests.kit.sink.bench import Bench, sink_of, stored
from tests.kit.sink.kinds import CASES
from tests.own_time import patience


async def test_the_task_of_the_new_configuration_sends_it(tmp_path: Path) -> None:
    config = sink_of(CASES[0], "http://127.0.0.1:1/write")
    async with stored(tmp_path) as store, Transport(allow_private=True) as transport:
        bench = Bench(config, transport, store)
        worker = bench.worker
        spooler = worker._spooler
        assert spooler is not None
        read, begun, go_on = spooler.load, asyncio.Event(), asyncio.Event()
        readers: list[object] = []
        senders: list[object] = []

        async def slow_load(entry: Entry) -> Send | None:
            readers.append(asyncio.current_task())
            begun.set()
            await go_on.wait()
            return await read(entry)

        async def send(_request: EncodedRequest) -> Verdict:
            senders.append(asyncio.current_task())
            return Delivered()

        spooler.load = slow_load  # type: ignore[method-assign]
        worker._client.send = send  # type: ignore[method-assign]
        bench.offer(1.0)
        worker.save(at_once=True)
        await bench.until(lambda one: not one.queue.memory_bytes)
        worker.start()
        async with patience(5):
            await begun.wait()
            worker.reconfigure(config)
            go_on.set()
            await bench.finished()
        assert len(readers) == 2
        assert senders == readers[1:]
        await worker.close()
