"""What is dropped before a sink is told by status, metrics and explain, to whom it belongs."""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.processes import eventually, get_json, get_metrics, relay
from tests.kit.remote_write.raw import HEADERS, snappy
from tests.kit.remote_write.sample_writes import T0_MS, write

BROKEN = ('h_bucket{le="1"} 2.5', 'h_bucket{le="+Inf"} 3', "h_sum 1", "h_count 3")
GOOD = ("up 1", "c_total 5")


def exporter(name: str, query: str, url: str, *, temporality: str) -> str:
    return exporter_yaml(
        name,
        url,
        namespace="default",
        metrics=query,
        otlp_http={"temporality": temporality},
        batch={"timeout": "20ms"},
    )


async def send(url: str, body: bytes, *, status: int = 204) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=snappy(body), headers=HEADERS) as response,
    ):
        assert response.status == status, await response.text()


async def ask(admin: str, series: str) -> str:
    query = urllib.parse.urlencode({"series": series})
    async with aiohttp.ClientSession() as session, session.get(f"{admin}/explain?{query}") as got:
        assert got.status == 200
        return await got.text()


def unexported(status: dict[str, Any], exporter: str) -> dict[tuple[str, str], int]:
    """Samples by family and reason, of the one sink of an exporter."""
    (found,) = (one for one in status["exporters"] if one["name"] == exporter)
    told = found["sinks"][0]["unexported"]
    assert told["samples"] == sum(row["samples"] for row in told["families"])
    for row in told["families"]:
        assert row["meaning"]
        assert row["since"] <= row["lastAt"]
    return {(row["family"], row["reason"]): row["samples"] for row in told["families"]}


async def test_it_is_told_everywhere(tmp_path: Path) -> None:
    async with OtlpServer() as endpoint:
        manifests = tmp_path / "exporters.yaml"
        manifests.write_text(
            exporter("x", "{}", endpoint.url, temporality="cumulative")
            + exporter("y", '{job=""}', endpoint.url, temporality="delta")
        )
        settings = tmp_path / "relay.yaml"
        settings.write_text("translation: {assemblyTimeout: 2s}\n")
        arguments = ("--config", str(settings), "--exporters", str(manifests))
        async with relay(tmp_path, *arguments) as (_, ingest, admin):
            for second in range(2):
                await send(ingest, write(*BROKEN, *GOOD, at_ms=T0_MS + 1000 * second))
            await send(ingest, write("up 3", at_ms=-5), status=400)
            expected = {("h", "not_whole"): 8, ("up", "timestamp"): 1}

            async def told() -> bool:
                status = await get_json(f"{admin}/status")
                return unexported(status, "default/x").get(("h", "not_whole")) == 8

            await eventually("the histograms were given up", told, timeout_s=30)
            status = await get_json(f"{admin}/status")
            assert unexported(status, "default/x") == expected
            deltas = {**expected, ("c_total", "delta_first"): 1}
            assert unexported(status, "default/y") == deltas
            metrics = await get_metrics(f"{admin}/metrics")
            name = "relay_sink_unexported_samples_total"
            place = 'exporter="default/x",sink="endpoint"'
            assert metrics[f'{name}{{{place},reason="not_whole",family="h"}}'] == 8
            assert sum(key.startswith(name) for key in metrics) == len(expected) + len(deltas)
            answer = await ask(admin, 'h_bucket{le="1"}')
            assert " 8 samples of h were dropped before sink endpoint, last at " in answer
            assert ": not_whole (a count that is no whole number)" in answer
            assert "up" not in answer
            assert "dropped" not in await ask(admin, 'other{le="1"}')
