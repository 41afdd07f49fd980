"""Somebody who watches a peer while it works: scrapes its metrics every second, as Prometheus
would, and has it read its configuration again in the middle of the run.

Of the relay's own metrics, :data:`LAG` is read: how late its event loop was. Three forms are
understood. A histogram (``_bucket`` with ``le``) gives quantiles over the run, to the upper bound
of the bucket. Where the peer gives a 99th percentile itself (``quantile="0.99"``), the highest one
scraped counts. Of a gauge, each scrape's value of ``window="last"`` is one measurement. The worst
is that of ``window="max"`` where that grew during the run.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from time import monotonic
from types import TracebackType
from typing import Self

from bench.web import get

LAG = "relay_event_loop_lag_seconds"
SCRAPE_INTERVAL_S = 1.0

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Reading:
    """One series of :data:`LAG` in one scrape."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    def label(self, name: str) -> str:
        """A label's value; "" where there is none."""
        return dict(self.labels).get(name, "")


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen. Lags are in s, and -1 where the peer does not tell."""

    scrapes: int
    reloads: int
    lag_p99_s: float
    lag_max_s: float


def read_lag(text: str) -> list[Reading]:
    """The series of :data:`LAG` in a text exposition."""
    readings = []
    for line in text.splitlines():
        if line.startswith(LAG) and (match := _LINE.match(line)):
            name, labels, value = match.groups()
            readings.append(Reading(name, tuple(_LABEL.findall(labels or "")), float(value)))
    return readings


def lags(scrapes: Iterable[list[Reading]]) -> tuple[float, float]:
    """The 99th percentile and the worst of scrapes in their order; -1 for what they do not tell."""
    rows = [row for row in scrapes if row]
    if not rows:
        return -1.0, -1.0
    given = [one.value for row in rows for one in row if one.label("quantile") == "0.99"]
    last = [one.value for row in rows for one in row if one.label("window") == "last"]
    buckets = _bucket_increase(rows[0], rows[-1])
    if buckets:
        p99, highest = _quantile(buckets, 0.99), _quantile(buckets, 1.0)
    elif given:
        p99 = highest = max(given)
    elif last:
        p99 = sorted(last)[min(len(last) - 1, len(last) * 99 // 100)]
        highest = max(last)
    else:
        return -1.0, -1.0
    # What the peer remembers as its worst may be from before; only what grew is of this run.
    first_worst, last_worst = (
        max((one.value for one in row if one.label("window") == "max"), default=0.0)
        for row in (rows[0], rows[-1])
    )
    return p99, max(highest, last_worst if last_worst > first_worst else 0.0)


def _bucket_increase(first: list[Reading], last: list[Reading]) -> list[tuple[float, float]]:
    """By how much each cumulative bucket grew, ascending by bound."""
    before = {one.labels: one.value for one in first if one.name == f"{LAG}_bucket"}
    grown = [
        (float(one.label("le")), one.value - before.get(one.labels, 0.0))
        for one in last
        if one.name == f"{LAG}_bucket"
    ]
    return sorted(grown)


def _quantile(buckets: list[tuple[float, float]], quantile: float) -> float:
    """The upper bound of the bucket that holds a quantile; of the last one, its lower bound."""
    total = buckets[-1][1]
    lower = 0.0
    for bound, count in buckets:
        if count >= quantile * total:
            return lower if bound == inf else bound
        lower = bound
    raise AssertionError("the last bucket holds everything")


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
        self._scrapes: list[list[Reading]] = []
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
