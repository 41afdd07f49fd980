"""How many examples hypothesis draws for a test.

Profile ``ci`` (the default) always draws the same ones, so that a red run can be run again; ``dev``
looks for three times as many new ones; ``fast`` draws at most 20 for each test (``make
test-fast``), and ``few`` at most 5, for what has passed with all of them under other versions.
``HYPOTHESIS_PROFILE=dev pytest tests/property`` chooses another one.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = 100
"""Of a test that does not say how many it wants."""
_DEV_FACTOR = 3
_AT_MOST = {"fast": 20, "few": 5}

_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")


def examples(count: int, **options: Any) -> settings:
    """Return the settings of a test that wants ``count`` examples under profile ``ci``."""
    return settings(max_examples=_scaled(count), **options)


def _scaled(count: int) -> int:
    if _PROFILE in _AT_MOST:
        return min(count, _AT_MOST[_PROFILE])
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
    for profile in _AT_MOST:
        settings.register_profile(profile, derandomize=True, print_blob=True, **common)
    settings.register_profile("dev", **common)
    settings.load_profile(_PROFILE)
