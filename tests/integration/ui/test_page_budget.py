"""The first view of 2,000 exporters: its size and its time."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from pathlib import Path

import pytest

from relay.ui.static_files import StaticFiles
from tests.kit.apiserver.running import ADMIN, EXPORTERS, ApiUser, exporter
from tests.kit.ui.visitor import local_pages, ready, set_status

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(180)]

EXPORTERS_COUNT = 2000
AT_ONCE = 50
VIEW_BYTES_MAX = 100_000
VIEW_S_MAX = 0.3


async def fill(admin: ApiUser) -> None:
    """Make exporters, every tenth of which fails."""

    async def one(number: int) -> None:
        name = f"exporter-{number:04}"
        await admin.ask("POST", EXPORTERS, exporter(name))
        status = ready("Failing", "False", "401") if not number % 10 else ready()
        await set_status(admin, f"{EXPORTERS}/{name}", status)

    for start in range(0, EXPORTERS_COUNT, AT_ONCE):
        await asyncio.gather(*map(one, range(start, start + AT_ONCE)))


async def test_the_first_view_is_small_and_fast(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.api() as admin:
        await fill(admin)
        async with pages.visitor(ADMIN) as visitor:
            began = time.perf_counter()
            page = await visitor.get("/ui/exporters")
            first_s = time.perf_counter() - began
            assert f"1 to 100 of {EXPORTERS_COUNT}" in page.text
            assert "Failing <b>200</b>" in page.text
            assert page.text.count("<tr id=") == 100
            size = int(page.headers["Content-Length"])
            for address in re.findall(r'"(/ui/static/[^"]*)"', page.text):
                asset = StaticFiles()._assets[address]
                size += len(asset.packed)
            assert size < VIEW_BYTES_MAX, f"{size} bytes"
            assert first_s < VIEW_S_MAX, f"{first_s:.3f} s"
            failing = await visitor.get("/ui/exporters?state=failing&after=")
            assert "1 to 100 of 200" in failing.text
            assert len(gzip.compress(page.text.encode())) < 20_000
