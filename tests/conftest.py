"""What holds for every test: hypothesis' profile, the log, and what runs only where asked for.

What is marked ``long`` runs only where ``-m`` names it; ``--lane`` (:mod:`tests.lanes`) keeps
what is of one lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.examples import load_profile
from tests.kit.paths import ROOT
from tests.lanes import ALONE, CHOICES, is_elsewhere
from tests.log_state import kept_log

load_profile()


@pytest.fixture(autouse=True)
def log_of_the_process() -> Iterator[None]:
    """Let no test change what later ones see of the log."""
    with kept_log():
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lane", choices=CHOICES, help="only the tests of one lane")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    lane = config.option.lane
    if lane and collection_path.is_relative_to(ROOT / "tests"):
        return is_elsewhere(collection_path, lane) or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lane, asked_for = config.option.lane, "long" in config.option.markexpr
    left_out = {
        item
        for item in items
        if (item.get_closest_marker("long") and not asked_for)
        or (lane and (lane == ALONE) != bool(item.get_closest_marker(ALONE)))
    }
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]
