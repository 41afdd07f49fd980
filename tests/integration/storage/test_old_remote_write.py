"""Queues of remote write that earlier revisions left are sent as what they were encoded as.

``tests/kit/sink/stored_queues.py`` says what they hold, and writes those of another revision.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relay.app import Relay
from relay.config.settings.settings import ListenAddress, load_settings
from tests.kit.http.remote_write_server import Labels, RemoteWriteServer
from tests.kit.paths import DATA
from tests.kit.processes import eventually
from tests.kit.sink.stored_queues import ROUNDS, SERIES, VERSIONS, configure

STORED = sorted((DATA / "data_directories").glob("*/remote-write"))
RETRIES_S = 15.0
"""Longer than the delays that the cursors of stored queues name."""


def expected(start_ms: int) -> dict[Labels, list[tuple[int, float]]]:
    """What was queued for each sink, by series."""
    return {
        (("__name__", "temperature"), ("job", "api"), ("n", str(n))): [
            (start_ms + 1000 * number, float(10 * number + n)) for number in range(ROUNDS)
        ]
        for n in range(SERIES)
    }


@asynccontextmanager
async def opened(
    stored: Path, directory: Path, *, swapped: bool = False
) -> AsyncIterator[dict[str, RemoteWriteServer]]:
    """Open a copy of a stored directory; gives the endpoints by the version of their queues.

    ``swapped``: each sink has the other version since.
    """
    story = json.loads((stored / "story.json").read_text())
    shutil.copytree(stored / "data", directory / "data")
    shift_s = story["writtenAt"] + RETRIES_S - time.time()
    async with AsyncExitStack() as stack:
        servers = {one: await stack.enter_async_context(RemoteWriteServer()) for one in VERSIONS}
        path = configure(directory, {one: server.url for one, server in servers.items()})
        if swapped:
            manifest = directory / "exporters.yaml"
            text = manifest.read_text()
            for one, other in (("1.0", "x.0"), ("2.0", "1.0"), ("x.0", "2.0")):
                text = text.replace(f"protocolVersion: '{one}'", f"protocolVersion: '{other}'")
            manifest.write_text(text)
        settings = load_settings(path, {})
        anywhere = ListenAddress("127.0.0.1", 0)
        settings = replace(settings, listen=anywhere, admin_listen=anywhere)
        relay = Relay(settings, clock=lambda: time.time() + shift_s)
        await relay.start()
        stack.push_async_callback(relay.stop)
        yield servers


@pytest.mark.parametrize("stored", STORED, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("swapped", [False, True])
async def test_stored_queues_are_delivered(stored: Path, tmp_path: Path, swapped: bool) -> None:
    start_ms = json.loads((stored / "story.json").read_text())["startMs"]
    async with opened(stored, tmp_path, swapped=swapped) as servers:
        for version, server in servers.items():
            await eventually(
                f"everything of {version}",
                lambda server=server: server.storage.series == expected(start_ms),
                timeout_s=15,
            )
            assert {one.version for one in server.received} == {version}


def test_there_is_one() -> None:
    assert STORED
