"""Holds projects to the limits that are no matter of loading: queues, and samples a minute.

* The queues of a project are looked at once a second. Beyond the limit the largest gives up its
  oldest data, like queues that share the disk (:mod:`relay.sink.queue.fair_share`).
* Samples are counted over a minute. Where there were too many, the project's sinks take a share of
  its series, whole ones; where there were far fewer, the share grows again, up to all. The share is
  taken by a checksum of the labels, so that the same series are taken after a restart. Log records
  and spans likewise, by a checksum of the record or its trace's id.
* A limit is enforced on the sinks of its project alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from relay.config.limits.project_limits import ProjectLimits
from relay.pipeline.routing.series_tally import SHARE_ALL
from relay.sink.queue.fair_share import max_min_fair_cuts
from relay.sink.worker import SinkWorker

_log = logging.getLogger("relay.control.projects")

TARGET: Final = 0.95
"""Part of the limit that a new share aims at."""
SPARE: Final = 0.8
"""Part of the limit below which the share grows."""
GROWTH_MAX: Final = 2.0
"""Factor by which a share grows at most in a minute."""
SHARE_MIN: Final = SHARE_ALL >> 20


def next_share(share: int, *, per_minute: float, limit: int) -> int:
    """Return the share of series to take after a minute with so many samples, of :data:`SHARE_ALL`.

    The same where the limit is kept well.
    """
    if per_minute > limit:
        return max(SHARE_MIN, int(share * TARGET * limit / per_minute))
    if share < SHARE_ALL and per_minute < SPARE * limit:
        growth = min(GROWTH_MAX, TARGET * limit / max(per_minute, 1.0))
        return min(SHARE_ALL, int(share * growth))
    return share


def cut_queues(
    members: Iterable[tuple[str, SinkWorker]], limits: Callable[[str], ProjectLimits]
) -> None:
    """Drop the oldest data of the largest queues of each project beyond its limit."""
    projects: dict[str, dict[SinkWorker, int]] = {}
    for project, worker in members:
        if worker.queue_bytes and worker.config.queue.overflow != "block":
            projects.setdefault(project, {})[worker] = worker.queue_bytes
    for project, sizes in projects.items():
        limit = limits(project).queue_bytes_max
        if limit is None:
            continue
        excess = sum(sizes.values()) - limit
        if excess > 0:
            for worker, size in max_min_fair_cuts(sizes, excess).items():
                worker.evict(size, "project_queue_full")


class RateLimiter:
    """Sets the share of ``parts``, such as series, that each project's sinks take.

    ``limit`` returns a project's limit a minute, of which ``setting`` is the name. ``set_share``
    applies a share. Times are on any monotonic clock, s.
    """

    def __init__(
        self,
        setting: str,
        parts: str,
        limit: Callable[[str], int | None],
        set_share: Callable[[str, int], None],
    ) -> None:
        self._setting = setting
        self._parts = parts
        self._limit = limit
        self._set_share = set_share
        self._shares: dict[str, int] = {}
        self._before: dict[str, tuple[float, int]] = {}

    def observe(self, project: str, samples: int, now: float) -> None:
        """Note how much the project's sinks have taken since the start, once a minute."""
        limit = self._limit(project)
        if limit is None:
            return
        since, before = self._before.get(project, (now, samples))
        self._before[project] = now, samples
        if now <= since or samples < before:
            return  # the first time
        per_minute = (samples - before) * 60.0 / (now - since)
        old = self._shares.get(project, SHARE_ALL)
        new = next_share(old, per_minute=per_minute, limit=limit)
        if new == old:
            return
        self._shares[project] = new
        self._set_share(project, new)
        if SHARE_ALL in {old, new}:
            _log.log(
                logging.WARNING if new < old else logging.INFO,
                f"project is above {self._setting}: its sinks take a share of its {self._parts}"
                if new < old
                else f"project is within {self._setting} again",
                extra={
                    "project": project,
                    "perMinute": round(per_minute),
                    "share": round(new / SHARE_ALL, 4),
                },
            )

    @property
    def shares(self) -> Mapping[str, int]:
        """The share of each project that had too much, of :data:`SHARE_ALL`."""
        return self._shares

    def share(self, project: str) -> float:
        """Return the share that a project's sinks take, 0 to 1."""
        return self._shares.get(project, SHARE_ALL) / SHARE_ALL

    def forget(self, project: str) -> None:
        """Forget a project that is gone."""
        self._shares.pop(project, None)
        self._before.pop(project, None)

    def __repr__(self) -> str:
        return f"<RateLimiter {self._setting}, {len(self._shares)} projects>"
