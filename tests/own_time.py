"""A clock for what may take no longer than a bound, on a machine that others use as well."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDULE = Path("/proc/thread-self/schedstat")
_HAS_SCHEDULE = _SCHEDULE.exists()


def own_time() -> float:
    """Return s of a monotonic clock that stands still while others have this thread's processor.

    It goes on while the thread runs and while it waits for anything else. Where the system does
    not tell for how long a thread could run and did not, it is the monotonic clock.
    """
    now = time.monotonic()
    if not _HAS_SCHEDULE:
        return now
    _, waited_ns, _ = _SCHEDULE.read_text().split()
    return now - int(waited_ns) / 1e9
