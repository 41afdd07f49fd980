"""What holds for every test: hypothesis' profile, and what runs only where asked for.

What is marked ``long`` runs only where ``-m`` names it.
"""

from __future__ import annotations

import pytest

from tests.kit.examples import load_profile

load_profile()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
