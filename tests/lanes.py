"""Which tests run side by side: folders of tests by lane, and what runs alone.

Tests that compute keep one processor busy; those with real processes mostly wait. A test that
measures how long something takes is marked ``alone``, and runs with nothing beside it.
"""

from __future__ import annotations

from pathlib import Path

from tests.kit.paths import ROOT

LANES = {
    "computing": ("unit", "property", "contract"),
    "waiting": ("integration", "chaos"),
}
ALONE = "alone"
CHOICES = (*LANES, ALONE)


def folders(lane: str) -> tuple[str, ...]:
    """Return the folders below tests/ that hold a lane's tests."""
    return LANES["waiting"] if lane == ALONE else LANES[lane]


def is_elsewhere(path: Path, lane: str) -> bool:
    """Return whether a path below tests/ lies in a folder of other lanes alone."""
    place = path.relative_to(ROOT / "tests").parts
    others = {folder for each in LANES.values() for folder in each} - set(folders(lane))
    return bool(place) and place[0] in others
