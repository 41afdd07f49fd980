"""What holds for every test: which hypothesis profile runs.

``ci`` (the default) always draws the same examples, so that a red run can be run again; ``dev``
looks for new ones: ``HYPOTHESIS_PROFILE=dev pytest tests/property``.
"""

from __future__ import annotations

import os

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
