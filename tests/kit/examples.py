"""How many examples hypothesis draws for a test.

Profile ``ci`` (the default) always draws the same ones, so that a red run can be run again; ``dev``
looks for three times as many new ones; ``fast`` draws at most :data:`FAST_EXAMPLES_MAX` for each
test (``make test-fast``). ``HYPOTHESIS_PROFILE=dev pytest tests/property`` chooses another one.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = 100
"""Of a test that does not say how many it wants."""
FAST_EXAMPLES_MAX = 20
_DEV_FACTOR = 3

_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")


def examples(count: int, **options: Any) -> settings:
    """Return the settings of a test that wants ``count`` examples under profile ``ci``."""
    return settings(max_examples=_scaled(count), **options)


def _scaled(count: int) -> int:
    if _PROFILE == "fast":
        return min(count, FAST_EXAMPLES_MAX)
    return count * _DEV_FACTOR if _PROFILE == "dev" else count


def load_profile() -> None:
    """Make the chosen profile the one of all tests."""
    # Deadlines and slow examples say more about the machine's load than about the test.
    common: dict[str, Any] = {
        "deadline": None,
        "suppress_health_check": [HealthCheck.too_slow],
        "max_examples": _scaled(EXAMPLES),
    }
    settings.register_profile("ci", derandomize=True, print_blob=True, **common)
    settings.register_profile("fast", derandomize=True, print_blob=True, **common)
    settings.register_profile("dev", **common)
    settings.load_profile(_PROFILE)
