"""Versions that are too old, too new, or none: answered as kube-apiserver does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.apiserver.running import ADMIN, EXPORTERS, ApiProcess, exporter
from tests.kit.kubernetes.real_api import TOKEN
from tests.kit.kubernetes.servers import defined_api

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

NEW = "resourceVersion=9999999999999999"
WATCH = "?watch=1&timeoutSeconds=2"
STREAMING = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
SAME = (
    f"{WATCH}&resourceVersion=1",
    f"{WATCH}&resourceVersion=1&{STREAMING}",
    f"{WATCH}&{STREAMING}",
    f"{WATCH}&resourceVersion=0",
    f"{WATCH}&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=1",
    "?resourceVersion=1&resourceVersionMatch=NotOlderThan",
    "?resourceVersion=1",
    f"?{NEW}",
    f"?{NEW}&resourceVersionMatch=Exact",
    f"/a?{NEW}",
    "?limit=1",
    "?continue=garbage",
    "?resourceVersion=x",
)
OTHERS = {
    f"{WATCH}&{NEW}": (
        "is refused at once, so that clients list anew after a restore of a backup; "
        "kube-apiserver sends nothing"
    ),
    f"{WATCH}&{NEW}&{STREAMING}": "is refused by the code of the answer, not in the stream",
    "?resourceVersion=1&resourceVersionMatch=Exact": (
        "is 410 at once, where kube-apiserver keeps earlier states for five minutes"
    ),
    f"{WATCH}&resourceVersion=x": "is 400, where kube-apiserver answers 500",
    "?limit=1&resourceVersion=0": "keeps to the limit, which kube-apiserver's cache ignores",
}


async def answered(session: aiohttp.ClientSession, url: str, query: str) -> list[Any]:
    """The code of an answer, and of each part its kind or type, code and reason."""
    async with session.get(f"{url}{EXPORTERS}{query}", ssl=False) as response:
        text = await response.text()
    lines = text.splitlines() if "watch=1" in query else [text]
    found: list[Any] = [response.status]
    for line in lines:
        value = json.loads(line)
        one = value.get("object", value)
        annotations = one.get("metadata", {}).get("annotations")
        shown = annotations if value.get("type") == "BOOKMARK" else None
        if value.get("type") == "BOOKMARK" and not annotations:
            continue  # a server sends them when it likes
        token = bool(one.get("metadata", {}).get("continue"))
        listed = [each["metadata"]["name"] for each in one.get("items", ())]
        found.append(
            (value.get("type"), one["kind"], one.get("code"), one.get("reason"), listed, token)
        )
        found.append(shown)
    return found


async def create(session: aiohttp.ClientSession, url: str) -> None:
    for name in ("a", "b", "c"):
        async with session.post(f"{url}{EXPORTERS}", json=exporter(name), ssl=False) as response:
            assert response.status == 201, await response.text()


async def test_answers_are_the_same(tmp_path: Path) -> None:
    own = ApiProcess(tmp_path / "own")
    own.folder.mkdir()
    own.prepare()
    assert TOKEN == ADMIN
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        defined_api(tmp_path / "real") as real,
        aiohttp.ClientSession(headers=headers) as session,
    ):
        await create(session, real.url)
        async with own.running():
            await create(session, own.url)
        async with own.running():  # which has forgotten the first versions

            async def both(query: str) -> list[Any]:
                return await asyncio.gather(
                    *(answered(session, url, query) for url in (real.url, own.url))
                )

            # All at once: a watch takes two seconds, and nothing changes meanwhile.
            same = await asyncio.gather(*map(both, SAME))
            for query, (expected, found) in zip(SAME, same, strict=True):
                assert found == expected, query
            others = await asyncio.gather(*map(both, OTHERS))
            for why, (expected, found) in zip(OTHERS.values(), others, strict=True):
                assert found != expected, why
