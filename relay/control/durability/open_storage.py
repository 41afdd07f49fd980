"""Open and close the data directory with its journal and queues."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from relay.config.settings.settings import Storage
from relay.control.durability.checkpointer import Checkpointer
from relay.control.durability.learned_state import decode_knowledge
from relay.control.durability.replay import Replay
from relay.control.reconcile.reconciler import SinkReconciler
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.statistics import Knowledge
from relay.runtime.errors import ConfigError, Fault
from relay.sink.spill.store import QueueStore
from relay.storage.journal.checkpoint import Checkpoint
from relay.storage.journal.interface import Journal, LearnedState
from relay.storage.journal.journal import FileJournal
from relay.storage.log.data_directory import DataDirectory
from relay.storage.log.filesystem import Disk
from relay.storage.log.frame import FormatError

_log = logging.getLogger("relay.control.durability")

JOURNAL_SHARE = 4
"""The journal gets a quarter of the storage: it holds the seconds of traffic that sinks are busy
with. Backlogs are in the queues, which get the rest."""

LOOK_S = 5.0
"""Seconds between checks of the lock and format files."""


class OpenStorage:
    """An opened, locked data directory.

    Journal, queues, the last checkpoint, and the learned state of an earlier process (None:
    unknown).
    """

    def __init__(
        self,
        directory: DataDirectory,
        journal: Journal,
        store: QueueStore,
        checkpoint: Checkpoint,
        knowledge: Knowledge | None,
    ) -> None:
        self.journal = journal
        self.store = store
        self.checkpoint = checkpoint
        self.knowledge = knowledge
        self._directory = directory
        self._look_at = 0.0

    @property
    def path(self) -> Path:
        """Return the directory."""
        return self._directory.path

    def checkpointer(
        self, engine: MetricsPipeline, reconciler: SinkReconciler, replay: Replay
    ) -> Checkpointer:
        """Return what saves checkpoints here; it restores the state of an earlier process."""
        return Checkpointer(engine, reconciler, self, replay)

    def look_after(self, now: float) -> None:
        """Begin to restore deleted files, at most every :data:`LOOK_S`; ``now`` is monotonic, s."""
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self.store.spawn(self._directory.restore)

    def troubles(self) -> list[str]:
        """Return why new data is in memory only at this moment."""
        troubles = []
        if self.journal.trouble:
            troubles.append(f"storage: the journal is not writable: {self.journal.trouble}")
        if self.store.trouble:
            troubles.append(f"storage: queues are in memory only: {self.store.trouble}")
        return troubles

    async def close(
        self, checkpoint: Checkpoint | None, *, low: int, knowledge: LearnedState | None
    ) -> None:
        """Finish writing, save the last checkpoint (None: keep the old one), unlock."""
        await self.store.close()
        await self.journal.close(checkpoint, trim_below=low, learned=knowledge)
        self._directory.close()

    def __repr__(self) -> str:
        return f"<OpenStorage {self._directory!r} {self.journal!r}>"


async def open_storage(
    settings: Storage, disk: Disk, *, clock: Callable[[], float] = time.time
) -> OpenStorage:
    """Lock the data directory and recover its content.

    Raises ConfigError if it is in use, has an unknown format, or cannot be used.
    """
    directory = DataDirectory(settings.path)
    journal_bytes_max = settings.bytes_max // JOURNAL_SHARE
    journal = FileJournal(
        directory.journal,
        directory.checkpoint,
        bytes_max=journal_bytes_max,
        fsync=settings.fsync,
        fsync_interval_s=settings.fsync_interval_s,
        disk=disk,
    )
    store = QueueStore(
        directory.queues,
        bytes_max=settings.bytes_max - journal_bytes_max,
        sync=settings.fsync != "never",
        disk=disk,
        clock=clock,
        orphan_retention_s=settings.orphan_retention_s,
    )
    try:
        checkpoint = await journal.open()
        await asyncio.to_thread(store.open)
        await journal.advance(store.highest_position + 1)
        knowledge = _decoded(await journal.load_learned_state())
    except BaseException as error:
        await store.close()
        await journal.close(None, trim_below=0)
        directory.close()
        if isinstance(error, FormatError):
            fault = Fault("storage.path", f"{settings.path}: {error}")
            raise ConfigError([fault]) from error
        raise
    return OpenStorage(directory, journal, store, checkpoint, knowledge)


def _decoded(data: bytes | None) -> Knowledge | None:
    if data is None:
        return None
    knowledge = decode_knowledge(data)
    if knowledge is None:
        _log.error("the learned state is damaged: metric types and labels are learned again")
    return knowledge
