"""Exemplars that remote write 2.0 has no form for are counted where an operator looks."""

from __future__ import annotations

from pathlib import Path

from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.remote_write_server import RemoteWriteServer
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.raw import T0_MS, snappy
from tests.kit.stored_relay import made, running


def write(*, is_exemplar: bool) -> bytes:
    """A request with a sample of one series, or with an exemplar of another one alone."""
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name="__name__", value="hits_total" if is_exemplar else "up")
    if is_exemplar:
        exemplar = series.exemplars.add(value=0.5, timestamp=T0_MS)
        exemplar.labels.add(name="trace_id", value="0af7651916cd43dd8448eb211c80319c")
    else:
        series.samples.add(value=1.0, timestamp=T0_MS)
    return snappy(request.SerializeToString())


async def test_exemplars_without_a_point_in_their_batch_are_dropped(tmp_path: Path) -> None:
    async with RemoteWriteServer() as server:
        manifest = exporter_yaml("lone", server.origin, version="2.0", batch={"timeout": "50ms"})
        relay = made(tmp_path, manifest, stored=False)
        async with running(relay) as sender:
            assert await sender.post(write(is_exemplar=True)) < 300
            assert await sender.post(write(is_exemplar=False)) < 300
            await server.wait_until(lambda: server.values == [1.0])
            exemplars = (await sender.status())["ingest"]["exemplars"]
            assert exemplars["received"] == 1
            assert exemplars["dropped"] == 1
            assert relay.snapshot().exemplars["dropped"] == 1
