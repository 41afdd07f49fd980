"""Pauses in the work of a request, so that no request holds the event loop.

Rules:

* Call :meth:`Pace.pause` wherever work grows with what a sender wrote: once for some hundred
  entries of a microsecond or less, more often for dearer ones.
* A pause may raise until :attr:`Pace.final` is set; the request is then rolled back. Afterwards its
  effects are being made final.
* Nothing else may use the pipeline during a pause; the caller is responsible
  (:mod:`relay.control.time_slicing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final


class Pace:
    """Never pauses; base class."""

    __slots__ = ("final",)

    def __init__(self) -> None:
        self.final = False
        """True once the request cannot be rolled back; a pause must not raise then."""

    def pause(self) -> None:
        """Pause if it is time to."""

    def need_slices(self) -> None:
        """Ask that pauses pause even once the request is final. May raise, as a pause does."""


UNPACED: Final = Pace()
"""For short work, and for callers without an event loop."""

ENTRIES: Final = 256
"""Entries of a microsecond or less between two pauses."""

DEFERRED_STEP: Final = 4_096
"""Deferred samples between two pauses, 4 ms: fewer would cut the runs in which the components of a
histogram are processed together."""


def empty(kept: list[Any], pause: Callable[[], None]) -> None:
    """Empty a list with pauses: to free 100,000 entries at once takes 10 ms."""
    while kept:
        del kept[-ENTRIES:]
        pause()
