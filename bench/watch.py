"""Somebody who watches a peer while it works: scrapes its metrics every second, as Prometheus
would, and has it read its configuration again in the middle of the run.

Of the relay's own metrics, two say how late its event loop was: the histogram :data:`LAG`, whose
increase over the run gives quantiles to the upper bound of a bucket, and the gauge :data:`LAG_MAX`,
the worst of the last minute, which may have been before the run.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic
from types import TracebackType
from typing import Self

from bench.web import get

LAG = "relay_event_loop_lag_seconds"
LAG_MAX = "relay_event_loop_lag_max_seconds"
SCRAPE_INTERVAL_S = 1.0

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Reading:
    """One scrape: how many measurements were at most each bound in s, ascending, and the worst."""

    buckets: tuple[tuple[float, float], ...]
    worst_s: float


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen. Lags are in s, and -1 where the peer does not tell."""

    scrapes: int
    reloads: int
    lag_p99_s: float
    lag_max_s: float


def read_lag(text: str) -> Reading | None:
    """What a text exposition says of the lag; None where it says nothing."""
    buckets = []
    worst_s = inf
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        name, labels, value = match.groups()
        if name == f"{LAG}_bucket":
            buckets.append((float(dict(_LABEL.findall(labels or ""))["le"]), float(value)))
        elif name == LAG_MAX:
            worst_s = float(value)
    return Reading(tuple(sorted(buckets)), worst_s) if buckets else None


def lags(scrapes: Sequence[Reading | None]) -> tuple[float, float]:
    """The 99th percentile and the worst over scrapes in their order, both in s and not less than
    they were; -1 where that is not told."""
    first, last = (scrapes[0], scrapes[-1]) if scrapes else (None, None)
    if first is None or last is None:
        return -1.0, -1.0
    before = dict(first.buckets)
    grown = [(bound, count - before.get(bound, 0.0)) for bound, count in last.buckets]
    if not grown[-1][1]:
        return -1.0, -1.0
    if last.worst_s > first.worst_s:
        worst_s = last.worst_s
    else:
        worst_s = min(last.worst_s, _quantile(grown, 1.0))
    return min(worst_s, _quantile(grown, 0.99)), worst_s


def _quantile(buckets: Sequence[tuple[float, float]], quantile: float) -> float:
    """The upper bound of the bucket that holds a quantile."""
    wanted = quantile * buckets[-1][1]
    return next(bound for bound, count in buckets if count >= wanted)


class Watcher:
    """A context manager that watches from a thread of its own while it is open.

    ``reload``: what makes the peer read its configuration again, called once after
    ``reload_after_s``; None where it cannot. A scrape that fails is raised at the end.
    """

    def __init__(
        self, url: str, *, reload: Callable[[], None] | None, reload_after_s: float
    ) -> None:
        self._url = url
        self._reload = reload
        self._reload_at = monotonic() + reload_after_s
        self._scrapes: list[Reading | None] = []
        self._reloads = 0
        self._failure: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def result(self) -> Watched:
        """What was seen, once closed. Raises OSError where a scrape failed."""
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        return Watched(len(self._scrapes), self._reloads, *lags(self._scrapes))

    def _run(self) -> None:
        due = monotonic()
        try:
            while True:
                self._scrapes.append(read_lag(self._scrape()))
                if self._reload is not None and not self._reloads and due >= self._reload_at:
                    self._reload()
                    self._reloads += 1
                due += SCRAPE_INTERVAL_S
                if self._stopped.wait(max(0.0, due - monotonic())):
                    self._scrapes.append(read_lag(self._scrape()))
                    return
        except OSError as error:
            self._failure = error

    def _scrape(self) -> str:
        status, body = get(self._url)
        if status != 200:
            raise OSError(f"{self._url} answered {status}")
        return body.decode()
