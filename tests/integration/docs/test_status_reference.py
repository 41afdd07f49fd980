"""What docs/reference/status.md says of a sink's ledger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.documents import ROOT, workspace
from tests.kit.processes import relay
from tests.kit.remote_write.write_client import WriteClient
from tests.own_time import patience

LABELS = {"service_name": "networking.datumapis.com"}


async def test_points_of_the_open_batch_are_queued(tmp_path: Path) -> None:
    place = tmp_path / "workspace"
    place.mkdir()
    workspace(place)
    exporter, secrets = str(place / "gateway-exporter.yaml"), str(place / "secrets")
    async with relay(tmp_path, "--exporters", exporter, "--secrets", secrets) as (_, write, admin):
        async with WriteClient(write) as sender:
            assert await sender.send("network_bytes_sent_total", series=3, labels=LABELS) == 204
        async with patience(10):
            sink = await sink_of(admin)
            while not sink["ledger"]["queued"]:
                sink = await sink_of(admin)
    ledger = sink["ledger"]
    assert (ledger["matched"], ledger["queued"], sink["queue"]["requests"]) == (3, 3, 0)
    page = (ROOT / "docs/reference/status.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(ledger)


async def sink_of(admin: str) -> dict[str, Any]:
    """The one sink of /status."""
    async with aiohttp.ClientSession() as session, session.get(f"{admin}/status") as answer:
        (exporter,) = (await answer.json())["exporters"]
    (sink,) = exporter["sinks"]
    return dict(sink)
