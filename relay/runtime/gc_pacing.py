"""Tune CPython's cyclic GC for a process with millions of long-lived, acyclic objects.

* The path of a sample creates no cycles, so young collections may be rare.
* A full collection costs about 0.4 us per object, so there is at most one in
  :data:`FULL_INTERVAL_S`.
* CPython counts allocations minus deallocations: replacing thousands of objects one by one does not
  trigger it, then one collection visits all of them. Code that replaces many objects must call
  :func:`collect_young` now and then, and :func:`freeze_survivors` at the end.
* Frozen objects are never collected: they must be freed by reference counting alone.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any, Final

GEN0_CONTAINERS_MAX: Final = 5_000
"""Net new containers before a collection of generation 0; a few batches create as many."""
GEN0_PER_GEN1: Final = 5
"""Collections of generation 0 before one of generation 1."""
FULL_INTERVAL_S: Final = 600.0
_GEN1_PER_GEN2: Final = 10
_NEVER: Final = 1_000_000_000

_full_at = 0.0


def configure_gc() -> None:
    """Freeze the objects that exist now and pace the GC from now on."""
    if _pace not in gc.callbacks:
        gc.callbacks.append(_pace)
    gc.unfreeze()  # objects frozen during the start were hardly examined
    gc.collect()  # calls _pace, which sets the thresholds
    gc.freeze()


def collect_young() -> None:
    """Collect generations 0 and 1; 0.4 us per object. Call it while replacing many objects."""
    gc.collect(1)


def freeze_survivors() -> None:
    """Collect young objects, then freeze all survivors: most of them are long-lived."""
    collect_young()
    gc.freeze()


def _pace(phase: str, info: Mapping[str, Any]) -> None:
    """Suppress full collections for :data:`FULL_INTERVAL_S` after each one; a GC callback."""
    global _full_at  # noqa: PLW0603 - one GC per process
    if phase != "stop" or not info["generation"]:
        return
    now = time.monotonic()
    if info["generation"] == 2:
        _full_at = now
        gc.set_threshold(GEN0_CONTAINERS_MAX, GEN0_PER_GEN1, _NEVER)
    elif now >= _full_at + FULL_INTERVAL_S:
        gc.set_threshold(GEN0_CONTAINERS_MAX, GEN0_PER_GEN1, _GEN1_PER_GEN2)
