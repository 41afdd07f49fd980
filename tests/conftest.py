"""What holds for every test: which hypothesis profile runs, and what runs only where asked for.

``ci`` (the default) always draws the same examples, so that a red run can be run again; ``dev``
looks for new ones: ``HYPOTHESIS_PROFILE=dev pytest tests/property``. What is marked ``long`` runs
only where ``-m`` names it.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

_LOADED_MACHINE = [HealthCheck.too_slow]  # says more about the neighbours than about the test

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=_LOADED_MACHINE,
)
settings.register_profile(
    "dev", deadline=None, max_examples=300, suppress_health_check=_LOADED_MACHINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
