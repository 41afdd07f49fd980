"""Saves checkpoints: the progress of every sink, and the state learned from requests.

Rules:

* A checkpoint is saved only when something changed. Collecting one visits every sink, so nothing is
  done while no position was taken or released, no sink was added or removed, and nothing was
  learned since the last one that was saved.
* When the journal is half full, sinks that still hold its older half must spill it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.control.durability import delta_state_file
from relay.control.durability.histogram_layout_file import LayoutFile
from relay.control.durability.learned_state import encode_knowledge
from relay.control.durability.replay import Replay
from relay.control.reconcile.reconciler import SinkReconciler
from relay.pipeline.engine import MetricsPipeline
from relay.storage.journal.checkpoint import Checkpoint
from relay.storage.journal.interface import LearnedState

if TYPE_CHECKING:
    from relay.control.durability.open_storage import OpenStorage


class Checkpointer:
    """Saves checkpoints to a journal; call :meth:`keep` periodically.

    The constructor restores the state that an earlier process saved.
    """

    def __init__(
        self,
        engine: MetricsPipeline,
        reconciler: SinkReconciler,
        storage: OpenStorage,
        replay: Replay,
    ) -> None:
        self._engine = engine
        self._reconciler = reconciler
        self._journal = storage.journal
        self._path = storage.path
        self._layouts = LayoutFile(storage.path, engine.assembly)
        self._replay = replay
        self.saved: Checkpoint | None = None
        """The last checkpoint that was given to the journal."""
        self._saved_state: tuple[int, ...] | None = None
        delta_state_file.load_and_delete(self._path, engine.deltas)
        self._layouts.load()

    async def leave(self) -> None:
        """Save the state for the next process; nothing may be ingested afterwards."""
        delta_state_file.save(self._path, self._engine.deltas)
        await self._layouts.save()

    def keep(self, tick: float) -> None:
        """Save a checkpoint and trim the journal. ``tick`` is the monotonic clock, s."""
        self._layouts.save_if_due(tick)
        state = self._state()
        if state != self._saved_state:
            self._save(state)
        extent = self._journal.extent
        if extent.bytes > self._journal.bytes_max // 2:
            self._reconciler.spill_below(extent.position_after(extent.bytes // 2))

    def checkpoint(self) -> Checkpoint:
        """Return the present progress of each sink."""
        offsets = self._engine.offsets
        following = offsets.following
        named, rest = self._engine.named()
        lows = self._replay.raised(self._reconciler.low_watermarks(following, limit=rest))
        beyond = self._replay.next_of(following)
        marks = self._reconciler.marks()
        return Checkpoint(beyond, lows, following, tuple(named), offsets.reach, marks)

    def taught(self) -> LearnedState | None:
        """Return the learned state; None if it is saved already."""
        version = self._engine.metadata_version
        if version == self._journal.saved_version:
            return None
        return LearnedState(version, encode_knowledge(self._engine.export_metadata()))

    def _save(self, state: tuple[int, ...]) -> None:
        checkpoint = self.checkpoint()
        if checkpoint != self.saved:
            low = self._engine.offsets.reach
            if not self._journal.save_checkpoint(checkpoint, trim_below=low, learned=self.taught()):
                return  # still busy with the one before
            self.saved = checkpoint
        self._saved_state = state

    def _state(self) -> tuple[int, ...]:
        """Return a value that changes whenever a checkpoint does."""
        engine = self._engine
        return (
            engine.offsets.version,
            engine.low_watermark,
            engine.metadata_version,
            self._reconciler.revision,
            self._replay.active,
        )

    def __repr__(self) -> str:
        return f"<Checkpointer {self._journal!r}>"
