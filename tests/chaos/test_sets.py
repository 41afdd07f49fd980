"""Stops and deaths at any instant, under histograms in pieces: none lost, none torn, few twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.chaos.sets import SetsRun

SEED = int(os.environ.get("CHAOS_SEED", "1"))
DEATHS = int(os.environ.get("CHAOS_DEATHS", "500"))


async def survive_deaths(directory: Path, *, seed: int, deaths: int) -> None:
    """Run, print the figures, check."""
    chaos = SetsRun(directory, seed=seed)
    report = await chaos.kill_again_and_again(deaths)
    print(
        f"\nseed {seed}: {report.kills} kills and {report.stops} stops in {report.seconds:.0f} s, "
        f"start-up {max(report.startups_s):.2f} s at most"
    )
    print("\n".join((*chaos.oracle.describe(), *chaos.records.oracle.describe())))
    chaos.check()


@pytest.mark.slow
async def test_a_few_deaths_between_members_of_sets(tmp_path: Path) -> None:
    await survive_deaths(tmp_path, seed=SEED, deaths=8)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_hundreds_of_deaths_between_members_of_sets(tmp_path: Path) -> None:
    await survive_deaths(tmp_path, seed=SEED + 100, deaths=DEATHS)
