"""Look after the running sinks about once a second: age limits, spilling, forecasts, orphans."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from relay.control.reconcile.sink_entry import log_fields
from relay.sink.eviction import Evictor
from relay.sink.worker import SinkWorker

if TYPE_CHECKING:
    from relay.sink.spill.store import QueueStore

_log = logging.getLogger("relay.control.reconcile")

UPKEEP_S: Final = 1.0
"""Interval of each sink's upkeep; s."""
UPKEEP_SLICES: Final = 10
"""Parts of one round of upkeep, because ten thousand sinks at once would delay senders."""


class SinkUpkeep:
    """The periodic work for all sinks. Lives on the event loop.

    ``awake`` are the sinks that need :meth:`SinkWorker.tick`, in order: most of ten thousand have
    no data and cost nothing. ``orphans_may_expire``: no queue on disk can belong to a faulty file.
    """

    def __init__(self, evictor: Evictor, store: QueueStore | None) -> None:
        self.awake: dict[SinkWorker, None] = {}
        self.orphans_may_expire = False
        self._evictor = evictor
        self._store = store
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the periodic upkeep. Needs a running loop."""
        assert self._task is None, "started twice"
        self._task = asyncio.get_running_loop().create_task(self._run(), name="upkeep")

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._tried(self._tidy_disk)
            workers = list(self.awake)
            size = -(-len(workers) // UPKEEP_SLICES)
            for number in range(UPKEEP_SLICES):
                self._tried(self._evictor.relieve_memory)
                for worker in workers[number * size : (number + 1) * size]:
                    try:
                        if not worker.tick():
                            self.awake.pop(worker, None)
                    except Exception:
                        _log.exception("%r: bug in the relay", worker)
                await asyncio.sleep(UPKEEP_S / UPKEEP_SLICES)

    def _tried(self, step: Callable[[], None]) -> None:
        """Do one step for all sinks. A bug in it must not end the others."""
        try:
            step()
        except Exception:
            _log.exception("bug in the relay: upkeep of all sinks")

    def _tidy_disk(self) -> None:
        """Delete expired orphans, and make room if less disk is allowed than used."""
        if self._store is None:
            return
        for queue in self._store.expire_orphans() if self.orphans_may_expire else ():
            _log.warning(
                "queue on disk of a sink that did not come back: deleted", extra=log_fields(queue)
            )
        self._evictor.relieve_disk()

    def __repr__(self) -> str:
        return f"<SinkUpkeep {len(self.awake)} sinks awake>"
