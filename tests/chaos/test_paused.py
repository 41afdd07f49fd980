"""kill -9 beside paused sinks: they send nothing, and what they queued arrives once they go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.chaos.run import Run

SEED = int(os.environ.get("CHAOS_SEED", "1"))


async def survive_pauses(directory: Path, *, kills: int) -> None:
    """Run with other sinks paused each time, check that all arrives in order."""
    chaos = Run(directory, seed=SEED + 7, pauses=True)
    report = await chaos.kill_again_and_again(kills)
    assert report.kills == kills
    assert report.paused > kills
    chaos.check()


@pytest.mark.slow
async def test_a_few_kills_beside_paused_sinks(tmp_path: Path) -> None:
    await survive_pauses(tmp_path, kills=4)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_hundred_kills_beside_paused_sinks(tmp_path: Path) -> None:
    await survive_pauses(tmp_path, kills=100)
