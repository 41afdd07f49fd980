"""Until when the shards of a sink wait before they send again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.sink.queue.cursor import QueueCursor
from relay.sink.queue.shard import QueueShard
from relay.sink.retry.backoff import RETRY_AFTER_S_MAX
from relay.sink.steps import Now


@dataclass(slots=True)
class Wait:
    """Until when (monotonic clock, s) a shard waits, and whether the endpoint ``asked`` for it."""

    until: float = 0.0
    asked: bool = False

    def end(self) -> None:
        """End it for all that asked for it."""
        self.until, self.asked = 0.0, False


class ShardWaits(list[Wait]):
    """The wait of every shard, by its number."""

    def __init__(self, shards: Sequence[QueueShard]) -> None:
        super().__init__(Wait() for _ in shards)

    def resume(self) -> None:
        """End the delays that the endpoint did not ask for."""
        for wait in self:
            if not wait.asked:
                wait.until = 0.0

    def restore(
        self, cursors: Mapping[int, QueueCursor], shards: Sequence[QueueShard], now: Now
    ) -> None:
        """Continue the schedule of retries that cursors tell, where a shard has records on disk."""
        for number, cursor in cursors.items():
            if number < len(self) and shards[number].disk.entries:
                shards[number].attempts = cursor.attempts
                left_s = min(cursor.resumes_at - now.wall, RETRY_AFTER_S_MAX)
                self[number].until = now.monotonic + max(0.0, left_s)
                self[number].asked = True  # a cursor does not say which delay it was

    def cursors(
        self, shards: Sequence[QueueShard], now: Now, *, reshards: tuple[float, ...] = ()
    ) -> dict[int, QueueCursor]:
        """Return how far each shard with records on disk has come, for :meth:`restore`."""
        found: dict[int, QueueCursor] = {}
        for shard, wait in zip(shards, self, strict=True):
            oldest = shard.disk.oldest
            if oldest is not None:
                left_s = wait.until - now.monotonic
                resumes_at = round(now.wall + left_s, 1) if left_s > 0 else 0.0
                found[shard.number] = QueueCursor(
                    *oldest, shard.attempts, resumes_at, shard.disk.held, reshards
                )
        return found
