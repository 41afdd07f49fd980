"""Which tests run side by side: folders of tests by lane, and what runs alone.

Tests that compute keep one processor busy, and are two lanes of about the same size: one lane would
go on when all others have ended, with a processor idle. Those with real processes mostly wait. A
test that measures how long something takes is marked ``alone``, and runs with nothing beside it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from tests.kit.paths import ROOT

LANES = {
    "computing": ("unit", "contract", "property/control"),
    "property": ("property",),
    "waiting": ("integration",),
    "peers": (
        "chaos",
        "integration/senders",
        "integration/sink",
        "integration/ui",
        "integration/control/kubernetes/test_real_api.py",
    ),
    "cluster": ("integration/kubernetes",),
    "api": ("integration/apiserver", "integration/kubernetes/test_walk.py"),
    "control": (
        "integration/bench",
        "integration/control/kubernetes",
        "integration/control/replicas",
        "integration/kubernetes/deployments",
        "integration/kubernetes/test_outages.py",
    ),
}
"""By lane: folders and files below tests/. One within another is that lane's alone."""

COMPUTING = {"computing", "property"}
"""Nothing in these is marked ``alone``."""

ALONE = "alone"
CHOICES = (*LANES, ALONE)


def lane_of(path: Path) -> str:
    """Return the lane of a file or folder of tests; "" if several lanes have a part in it."""
    place = PurePosixPath(path.relative_to(ROOT / "tests").as_posix())
    folders = {PurePosixPath(one): lane for lane, these in LANES.items() for one in these}
    if any(folder != place and folder.is_relative_to(place) for folder in folders):
        return ""
    holding = [folder for folder in folders if place.is_relative_to(folder)]
    return folders[max(holding, key=lambda one: len(one.parts))] if holding else ""


def is_elsewhere(path: Path, lane: str) -> bool:
    """Return whether nothing below a path can be in a lane; what runs alone waits otherwise."""
    found = lane_of(path)
    return found not in {"", lane} and (lane != ALONE or found in COMPUTING)
