"""Python's collector of garbage, paced for a process that holds millions of objects that are none.

Rules:

* Nothing on the path of a sample makes cycles, but every batch makes thousands of tuples and views
  that live for milliseconds. At the default threshold of 700 the collector looked at them, and at
  the series, for a sixth of all CPU time (``bench --workload export``).
* A look at the young ones takes milliseconds. A full one takes 0.4 us an object, most of a second
  with a million series, and Python wants one whenever a quarter of them is new: every few seconds
  while somebody sends nothing but new series (``bench.micro.selection flood``). So there is at most
  one in ten minutes.
* Python counts what is made less what is dropped. Where thousands of exporters take the place of
  others it counts nothing for long, and then looks at all of them at once, for 0.15 s. Whoever
  replaces many things says so, a few at a time (:func:`collect_young`), and at the end that they
  are here to
  stay (:func:`freeze_survivors`). What is dropped later must not need the collector, therefore: it
  goes with
  its last reference.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any, Final

YOUNG_MAX: Final = 5_000
"""Net new containers before the youngest generation is looked at; a few batches make as many."""
YOUNG_LOOKS: Final = 5
"""Looks at the youngest generation before the second one has its turn."""
FULL_INTERVAL_S: Final = 600.0
_FULL_LOOKS: Final = 10
_NEVER: Final = 1_000_000_000

_full_at = 0.0


def configure_gc() -> None:
    """Take what was loaded out of the collector's sight, and pace it from now on."""
    if _pace not in gc.callbacks:
        gc.callbacks.append(_pace)
    gc.unfreeze()  # what was kept on the way here was hardly looked at
    gc.collect()  # which sets the pace
    gc.freeze()


def collect_young() -> None:
    """Look at what was made since the last look; 0.4 us an object. For whoever replaces many."""
    gc.collect(1)


def freeze_survivors() -> None:
    """Take what there is now out of the collector's sight: much of it is new, and will stay."""
    collect_young()
    gc.freeze()


def _pace(phase: str, info: Mapping[str, Any]) -> None:
    """Called by the collector: no full collection for a while after one."""
    global _full_at  # noqa: PLW0603 - there is one collector in a process, and this is its state
    if phase != "stop" or not info["generation"]:
        return
    now = time.monotonic()
    if info["generation"] == 2:
        _full_at = now
        gc.set_threshold(YOUNG_MAX, YOUNG_LOOKS, _NEVER)
    elif now >= _full_at + FULL_INTERVAL_S:
        gc.set_threshold(YOUNG_MAX, YOUNG_LOOKS, _FULL_LOOKS)
