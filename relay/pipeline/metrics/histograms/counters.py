"""State that all families share: sample counters, and the epoch of eviction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from relay.pipeline.batching.emitter import Emitter, Stream
    from relay.pipeline.batching.transaction import IngestMark
    from relay.pipeline.metrics.histograms.group import Family, PendingPoint


class Outcomes:
    """Samples by outcome.

    ``waiting`` samples, in ``sets``, have no outcome yet; ``points`` is the number of points made.
    """

    __slots__ = ("by_name", "points", "sets", "waiting")

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}
        self.points = 0
        self.sets = 0
        self.waiting = 0

    def count(self, outcome: str, samples: int) -> None:
        """Add to one of a few counters."""
        self.by_name[outcome] = self.by_name.get(outcome, 0) + samples


class FamilyEpoch:
    """Counts the passes in which unused families were evicted."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class Home(Protocol):
    """The parts of the assembler that a family uses."""

    epoch: FamilyEpoch
    outcomes: Outcomes

    def keep(self, family: Family, emitter: Emitter) -> Family | None:
        """Mark a family as used by one sample; return the present family of its key.

        None if that one feeds other sources: the sample is lost, and its series resolved anew.
        """
        ...

    def note_members(self, family: Family) -> None:
        """Store the components of a family for the time after a restart."""
        ...

    def open(self, family: Family, time_ns: int, stamp: bytes, emitter: Emitter) -> PendingPoint:
        """Open a set."""
        ...

    def leave_late(self, done: PendingPoint, emitter: Emitter) -> IngestMark:
        """Return the mark for the point of a set that leaves after its last sample came."""
        ...

    def streams(self, family: Family) -> tuple[Stream, ...]:
        """Return the present streams of a family's points."""
        ...

    def lose(self, family: Family, reason: str, samples: int) -> None:
        """Count samples that are in no point as drops."""
        ...
