"""What all families share and every sample touches: counts, and the turn of the clock by which
families are forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from relay.pipeline.batching.emitter import Emitter, Stream
    from relay.pipeline.batching.transaction import IngestMark
    from relay.pipeline.metrics.histograms.group import Family, PendingPoint


class Outcomes:
    """What became of samples, by outcome; ``waiting`` ones, in ``sets``, have none yet. ``points``
    were made."""

    __slots__ = ("by_name", "points", "sets", "waiting")

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}
        self.points = 0
        self.sets = 0
        self.waiting = 0

    def count(self, outcome: str, samples: int) -> None:
        """Add to one of a few counters."""
        self.by_name[outcome] = self.by_name.get(outcome, 0) + samples


class Epoch:
    """Counts how often families that were not in use were forgotten."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class Home(Protocol):
    """What a family needs of the assembly that it belongs to."""

    epoch: Epoch
    outcomes: Outcomes

    def keep(self, family: Family, emitter: Emitter) -> Family | None:
        """Note that a family is in use, for one sample; return the one that goes by its key now.

        None where that one feeds other sources: the sample is lost, and its series resolved anew.
        """
        ...

    def note_members(self, family: Family) -> None:
        """Keep in mind what a family consists of, beyond a restart."""
        ...

    def open(self, family: Family, time_ns: int, stamp: bytes, emitter: Emitter) -> PendingPoint:
        """Begin a set."""
        ...

    def leave_late(self, done: PendingPoint, emitter: Emitter) -> IngestMark:
        """Where the point of a set comes from that leaves after its last sample came."""
        ...

    def streams(self, family: Family) -> tuple[Stream, ...]:
        """Where a family's points go now."""
        ...

    def lose(self, family: Family, reason: str, samples: int) -> None:
        """Name samples that are in no point."""
        ...
