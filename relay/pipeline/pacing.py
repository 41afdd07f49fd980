"""Where the work of a request may pause, so that no request holds the event loop.

Rules:

* :meth:`Pace.pause` is called wherever work grows with what a sender wrote: once for some hundred
  entries that cost a microsecond or less, more often for dearer ones.
* A pause may raise, and then the request is taken back as a refused one is, until
  :attr:`Pace.final` is set: from there on its effects are being made final.
* Nothing else touches the engine during a pause; the caller sees to that
  (:mod:`relay.control.time_slicing`).
"""

from __future__ import annotations

from typing import Final


class Pace:
    """Never pauses; the base of those that do."""

    __slots__ = ("final",)

    def __init__(self) -> None:
        self.final = False
        """Whether the request cannot be taken back any more, so that no pause may raise."""

    def pause(self) -> None:
        """Pause, where it is time to."""


UNPACED: Final = Pace()
"""For work that is known to be short, and for callers without an event loop."""

DEFERRED_STEP: Final = 4_096
"""Samples of histograms and the like between two pauses, 4 ms: fewer would cut the runs in which
the members of a family are taken together."""

ENTRIES: Final = 256
"""Entries of a microsecond or less between two pauses."""
