"""Time of what may take no longer than a bound, on a machine that others use as well."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.pipeline.pacing import Pace

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


@contextmanager
def without_collections() -> Iterator[None]:
    """Let the GC wait: a collection looks at what all tests have left, which a relay has not."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class PauseWatch(Pace):
    """Measures the longest stretch between two pauses, in s of this thread's CPU time."""

    def __init__(self) -> None:
        super().__init__()
        self.longest_s = 0.0
        self.began_s = self._last_s = time.thread_time()

    def pause(self) -> None:
        """Take the time since the last pause."""
        now_s = time.thread_time()
        self.longest_s = max(self.longest_s, now_s - self._last_s)
        self._last_s = time.thread_time()
