"""Remote write 2.0 through the whole relay: HTTP in, exact Written headers, OTLP/HTTP out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import ListenAddress, Settings, Shutdown
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.raw import HEADERS, snappy
from tests.kit.remote_write.symbolic import T0_MS, Request2, native
from tests.kit.stored_relay import AT_ONCE

V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
V1 = "application/x-protobuf;proto=prometheus.WriteRequest"


class Reply(NamedTuple):
    """Status, text, and the three Written headers, None where absent."""

    status: int
    text: str
    written: tuple[str | None, ...]


class Sender:
    """A sender of either version, and what the relay exported."""

    def __init__(self, relay: Relay, session: aiohttp.ClientSession, server: OtlpServer) -> None:
        self.relay = relay
        self.server = server
        self._session = session

    async def send(self, body: bytes, content_type: str = V2) -> Reply:
        """Send a message in a snappy block."""
        address = self.relay.ingest_address
        async with self._session.post(
            f"http://{address.host}:{address.port}/api/v1/write",
            data=snappy(body),
            headers={**HEADERS, "Content-Type": content_type},
        ) as response:
            prefix = "X-Prometheus-Remote-Write"
            names = [f"{prefix}-{what}-Written" for what in ("Samples", "Histograms", "Exemplars")]
            written = tuple(response.headers.get(name) for name in names)
            return Reply(response.status, await response.text(), written)

    async def points(self, count: int) -> list[AnyPoint]:
        """Wait for this many points and return all that came."""
        await self.server.wait_until(lambda: len(self.server.any_points()) >= count)
        return self.server.any_points()


@asynccontextmanager
async def exporting_relay(directory: Path) -> AsyncIterator[Sender]:
    """A relay that exports everything to one endpoint."""
    async with OtlpServer() as server, aiohttp.ClientSession() as session:
        manifest = directory / "exporter.yaml"
        text = exporter_yaml(
            "all",
            server.url,
            metrics="{}",
            otlp_http={"compression": "none"},
            batch={"timeout": "50ms"},
        )
        manifest.write_text(text)
        relay = Relay(
            Settings(
                translation=AT_ONCE,
                listen=ListenAddress("127.0.0.1", 0),
                admin_listen=ListenAddress("127.0.0.1", 0),
                exporters=(ExporterPath(manifest),),
                shutdown=Shutdown(drain_timeout_s=0.2),
            )
        )
        await relay.start()
        try:
            yield Sender(relay, session, server)
        finally:
            await relay.stop()
        assert all(report.balanced for report in relay.facts().sinks)


async def test_all_that_2_0_can_say_arrives(tmp_path: Path) -> None:
    request = Request2()
    hits = request.series(
        {"__name__": "hits_total", "job": "shop/api"},
        (5.0, T0_MS, T0_MS - 60_000),
        metadata=(1, "Hits.", ""),
    )
    request.exemplar(hits, {"trace_id": "0af7651916cd43dd8448eb211c80319c"}, 0.5, T0_MS)
    native(request.series({"__name__": "latency"}, metadata=(3, "Latency.", "seconds")))
    async with exporting_relay(tmp_path) as sender:
        assert await sender.send(request.body) == (204, "", ("1", "1", "1"))
        points = {point.name: point for point in await sender.points(2)}
    counter, histogram = points["hits_total"], points["latency"]
    assert counter.identity == ("sum", True, "cumulative", "", "Hits.", "counter")
    assert counter.resource == (("service.name", "api"), ("service.namespace", "shop"))
    assert counter.start_ns == (T0_MS - 60_000) * 1_000_000
    assert counter.exemplars[0].trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert histogram.identity.kind == "exponential_histogram"
    assert histogram.data[0] == 18


async def test_a_partial_write_says_exactly_what_was_written(tmp_path: Path) -> None:
    request = Request2()
    request.series({"__name__": "good"}, (1.0, T0_MS), (2.0, T0_MS + 1))
    request.series({"job": "nameless"}, (1.0, T0_MS))
    native(request.series({"__name__": "wrong"}), count=99)
    native(request.series({"__name__": "right"}))
    async with exporting_relay(tmp_path) as sender:
        reply = await sender.send(request.body)
        assert (reply.status, reply.written) == (400, ("2", "1", "0"))
        assert "missing_name: 1" in reply.text
        assert "histogram_invalid: 1" in reply.text
        assert {point.name for point in await sender.points(3)} == {"good", "right"}


async def test_what_otlp_cannot_say_is_no_fault_of_the_senders(tmp_path: Path) -> None:
    request = Request2()
    native(request.series({"__name__": "gauge"})).reset_hint = 3
    request.series({"__name__": "good"}, (1.0, T0_MS))
    async with exporting_relay(tmp_path) as sender:
        assert await sender.send(request.body) == (204, "", ("1", "0", "0"))


async def test_an_undecodable_body_wrote_nothing(tmp_path: Path) -> None:
    async with exporting_relay(tmp_path) as sender:
        reply = await sender.send(b"\x2a\x7f")
        assert (reply.status, reply.written) == (400, ("0", "0", "0"))


async def test_1_0_is_told_nothing(tmp_path: Path) -> None:
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name="__name__", value="up")
    series.samples.add(value=1.0, timestamp=T0_MS)
    two = Request2()
    two.series({"__name__": "up"}, (2.0, T0_MS + 1))
    async with exporting_relay(tmp_path) as sender:
        nothing = (204, "", (None, None, None))
        assert await sender.send(request.SerializeToString(), V1) == nothing
        assert await sender.send(request.SerializeToString(), "application/x-protobuf") == nothing
        assert await sender.send(two.body, V1) == nothing  # vector 32
        assert await sender.send(two.body) == (204, "", ("1", "0", "0"))
        points = await sender.points(3)
        # One series, whichever version brought it.
        assert len({point[:5] for point in points}) == 1
