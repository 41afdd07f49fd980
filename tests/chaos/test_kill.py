"""kill -9 at any instant, endpoints that fail in every way: nothing acknowledged is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.chaos.run import Run

SEED = int(os.environ.get("CHAOS_SEED", "1"))


async def survive_kills(directory: Path, *, seed: int, kills: int, fsync: str = "interval") -> None:
    """Run, print the figures, check."""
    chaos = Run(directory, seed=seed, fsync=fsync)
    report = await chaos.kill_again_and_again(kills)
    duplicates = sorted(report.duplicates_after)
    print(
        f"\nseed {seed}, fsync {fsync}: {report.kills} kills and {report.stops} stops "
        f"in {report.seconds:.0f} s"
    )
    print("\n".join(chaos.oracle.describe()))
    print(
        f"duplicates at the steady endpoint after a death: median "
        f"{duplicates[len(duplicates) // 2]}, most {duplicates[-1]}; "
        f"start-up {max(report.startups_s):.2f} s at most"
    )
    chaos.check()


@pytest.mark.slow
async def test_a_few_kills_under_load(tmp_path: Path) -> None:
    await survive_kills(tmp_path, seed=SEED, kills=6)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_two_hundred_kills_under_load(tmp_path: Path) -> None:
    await survive_kills(tmp_path, seed=SEED, kills=200)


@pytest.mark.long
async def test_kills_with_every_fsync_policy(tmp_path: Path) -> None:
    for fsync in ("always", "never"):
        directory = tmp_path / fsync
        directory.mkdir()
        await survive_kills(directory, seed=SEED + 1, kills=15, fsync=fsync)
