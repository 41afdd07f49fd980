"""Puts a sink's payloads on disk and gets them back: the shell between its queue and its store.

Rules:

* What to save is decided by :meth:`relay.sink.delivery.Delivery.due_saves`; here it is done, one
  save a lane at a time, without holding up what is being sent.
* A save that fails changes nothing: the store says that it is in trouble, the data stays in memory
  with its positions held, and upkeep tries again when the store is ready to.
* Each record says from which position on a crash has to replay: no older than anything of its lane
  that is left in memory, or that the pipeline still holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from relay.errors import StorageError
from relay.sink.backlog import Entry
from relay.sink.delivery import Delivery, Moment, Send
from relay.sink.payload import STORED, Payload
from relay.sink.store import SinkStore

_log = logging.getLogger("relay.sink")

SAVE_AGAIN_S = 1.0
"""How long to wait, at the end, after the disk refused what is left."""
SAVE_REST_S_MAX = 10.0
"""How long a disk may take for it all."""


class Stowage:
    """See the module's rules.

    ``make_room`` is asked before so many bytes are stored, and says whether they may be;
    ``low_limit`` is the oldest position that the pipeline or a lane's open batch still holds;
    ``ready`` is told of a lane that may have something to do.
    """

    def __init__(
        self,
        store: SinkStore,
        delivery: Delivery,
        *,
        now: Callable[[], Moment],
        make_room: Callable[[int], bool],
        low_limit: Callable[[int], int],
        ready: Callable[[int], None],
    ) -> None:
        self._store = store
        self._delivery = delivery
        self._now = now
        self._make_room = make_room
        self._low_limit = low_limit
        self._ready = ready
        self._saves: set[asyncio.Task[None]] = set()
        self._used = delivery.queue.stored_bytes > 0
        self._ended = False
        self._retired = False

    def lows(self, lanes: int) -> tuple[int, ...]:
        """See :meth:`SinkStore.lows`."""
        return self._store.lows(lanes)

    def upkeep(self) -> None:
        """What has to be done about once a second."""
        self.save()
        self.tidy()
        if not self._ended:
            self._store.note(self._delivery.cursors(self._now()))

    def save(self, *, at_once: bool = False) -> None:
        """Begin to write what is due, or everything that is only in memory."""
        if self._ended:
            return
        for lane in self._delivery.due_saves(self._now(), at_once=at_once):
            if not self._store.ready:
                return
            unsaved = self._delivery.queue.lanes[lane].unsaved
            if self._make_room(sum(payload.body_bytes for payload in unsaved)):
                self._begin(lane)

    def tidy(self) -> None:
        """Give back files that are done with."""
        queue = self._delivery.queue
        if not (self._used or queue.stored_bytes):
            return
        for lane, segments in queue.free().items():
            self._store.free(lane, segments)
        self._used = queue.stored_bytes > 0
        self._store.account(queue.stored_bytes)

    async def load(self, entry: Entry) -> Send | None:
        """Read a record; None where that did not work, which is accounted for."""
        try:
            payload = await self._store.load(entry)
        except StorageError as error:
            self._delivery.not_loaded(entry, str(error), self._now())
            return None
        except BaseException:
            self._delivery.queue.not_loaded(entry, lost=False)
            raise
        return self._delivery.loaded(entry, payload, self._now())

    async def finish(self) -> None:
        """Wait for the saves that are under way."""
        while self._saves:
            await asyncio.wait(self._saves)

    async def save_rest(self) -> None:
        """Put everything on disk; nothing may be in flight. What the disk refuses, or does not take
        in time, stays in memory, in the ledger, and holds its positions."""
        try:
            async with asyncio.timeout(SAVE_REST_S_MAX):
                await self._save_all()
                if self._delivery.queue.memory_bytes:
                    await asyncio.sleep(SAVE_AGAIN_S)
                    await self._save_all()
        except TimeoutError:
            for task in self._saves:
                task.cancel()
            await self.finish()
        self._store.note(self._delivery.cursors(self._now()))
        self._ended = True

    async def retire(self) -> None:
        """The sink is removed: nothing is saved from now on, and a restart does not find it."""
        self._ended = True
        await self.finish()
        try:
            await self._store.retire()
            self._retired = True
        except StorageError as error:
            _log.warning("a removed sink's queue cannot be deleted, a restart will: %s", error)

    def delete(self) -> None:
        """Delete what is on disk."""
        if self._retired:
            self._store.delete()

    async def _save_all(self) -> None:
        await self.finish()
        for lane in self._delivery.due_saves(self._now(), at_once=True):
            self._begin(lane)
        await self.finish()

    def _begin(self, lane: int) -> None:
        batch = self._delivery.queue.begin_save(lane)
        if batch:
            task = asyncio.get_running_loop().create_task(self._save(lane, batch))
            self._saves.add(task)
            task.add_done_callback(self._saves.discard)

    async def _save(self, lane: int, batch: Sequence[Payload]) -> None:
        try:
            places = await self._store.save(
                lane, self._with_lows(lane, batch), lanes=self._delivery.lanes
            )
        except StorageError:
            self._delivery.queue.fail_save(lane)  # the store has said so
        except BaseException:
            self._delivery.queue.fail_save(lane)
            raise
        else:
            self._delivery.saved(lane, places)
            self.tidy()
        self._ready(lane)

    def _with_lows(self, lane: int, batch: Sequence[Payload]) -> list[tuple[Payload, int]]:
        low = self._low_limit(lane)
        flying = self._delivery.queue.lanes[lane].flying
        if flying is not None and flying.position != STORED and flying is not batch[0]:
            low = min(low, flying.position)
        lows: list[tuple[Payload, int]] = []
        for payload in reversed(batch):
            low = min(low, payload.position)
            lows.append((payload, low))
        return lows[::-1]

    def __repr__(self) -> str:
        return f"<Stowage {self._store!r}, {len(self._saves)} saves>"
