"""``paused`` in a manifest that changes: nothing is drained, rebuilt or batched anew."""

from __future__ import annotations

from pathlib import Path

from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import ListenAddress, Settings, Shutdown, Watch
from relay.sink.worker import SinkWorker
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.processes import eventually
from tests.kit.remote_write.write_client import WriteClient
from tests.kit.stored_relay import AT_ONCE


def manifest(server: OtlpServer, *, paused: bool, timeout: str) -> str:
    return exporter_yaml(
        "e", server.url, sink="s", batch={"timeout": timeout, "maxSize": 10}, paused=paused
    )


async def test_a_change_of_paused_alone_touches_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    async with OtlpServer() as server:
        file.write_text(manifest(server, paused=False, timeout="10m"))
        relay = Relay(
            Settings(
                translation=AT_ONCE,
                listen=ListenAddress("127.0.0.1", 0),
                admin_listen=ListenAddress("127.0.0.1", 0),
                exporters=(ExporterPath(file),),
                watch=Watch(enabled=False),
                shutdown=Shutdown(drain_timeout_s=0.5),
            )
        )
        await relay.start()
        try:
            address = relay.ingest_address
            async with WriteClient(f"http://{address.host}:{address.port}/api/v1/write") as client:
                worker = worker_of(relay)
                shards = worker.shards
                assert await client.send("up", series=4) == 204
                file.write_text(manifest(server, paused=True, timeout="10m"))
                changes = await relay.reload()
                assert changes.changed == ("default/e",)
                assert worker_of(relay) is worker
                assert worker.shards is shards
                assert shards[0].count == 4
                assert await client.send("up", series=10) == 204
                await eventually(
                    "queued", lambda: worker.statistics().ledger.queued == 10, timeout_s=5
                )
                assert not server.received
                document = relay.status()["exporters"][0]["sinks"][0]  # type: ignore[index]
                assert document["pausedByOwner"] is True
                assert document["paused"] is None
                assert document["state"] == "healthy"
                assert document["ledger"]["balanced"]
                assert (
                    "spec.sinks[0].paused" in next(iter(relay.facts().exporters)).warnings[0].text
                )
                file.write_text(manifest(server, paused=False, timeout="10m"))
                await relay.reload()
                await eventually("sent", lambda: len(server.values) == 10, timeout_s=5)
                assert worker_of(relay) is worker
                assert shards[0].count == 4
        finally:
            await relay.stop()
        assert len(server.values) == 14


def worker_of(relay: Relay) -> SinkWorker:
    assert relay._reconciler is not None
    (worker,) = relay._reconciler.workers()
    return worker
