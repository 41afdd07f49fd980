"""Use a peer during a run: scrapes and previews every second, an open page, one reload.

The relay's lag is read from the histogram :data:`LAG`, whose increase over the run gives quantiles
to the upper bound of a bucket, and the gauge :data:`LAG_MAX`, the maximum of the last minute, which
may include the time before the run.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from math import inf
from time import monotonic
from types import TracebackType
from typing import Self

from bench.web import get, post, stream

LAG = "relay_event_loop_lag_seconds"
LAG_MAX = "relay_event_loop_lag_max_seconds"
SCRAPE_INTERVAL_S = 1.0

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Reading:
    """One scrape: measurements at or below each bound in s, ascending, and the maximum."""

    buckets: tuple[tuple[float, float], ...]
    worst_s: float


@dataclass(frozen=True, slots=True)
class Watched:
    """Result of watching. Lags are in s, -1 if the peer does not expose them."""

    scrapes: int
    reloads: int
    previews: int
    page_bytes: int
    lag_p99_s: float
    lag_max_s: float


def read_lag(text: str) -> Reading | None:
    """Return the lag in a text exposition; None if there is none."""
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
    """Return the 99th percentile and the maximum over consecutive scrapes, in s.

    Both are upper bounds; -1 if unknown.
    """
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
    """Return the upper bound of the bucket with a quantile."""
    wanted = quantile * buckets[-1][1]
    return next(bound for bound, count in buckets if count >= wanted)


class Watcher:
    """Context manager that uses a peer from threads while it is open.

    ``reload`` makes the peer reload its configuration, once after ``reload_after_s``; None if it
    cannot. ``page`` and ``preview`` are URLs, "" for a peer without. What fails is raised at the
    end.
    """

    def __init__(
        self,
        url: str,
        *,
        reload: Callable[[], None] | None,
        reload_after_s: float,
        page: str = "",
        preview: str = "",
    ) -> None:
        self._url = url
        self._reload = reload
        self._reload_at = monotonic() + reload_after_s
        self._page = page
        self._preview = preview
        self._scrapes: list[Reading | None] = []
        self._reloads = self._previews = self._page_bytes = 0
        self._failure: Exception | None = None
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="watcher")]
        if page:
            # It ends with the peer, not with the run: a stream has no end of its own.
            self._threads.append(threading.Thread(target=self._read_page, name="page"))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def result(self) -> Watched:
        """Return the result, once closed. Raise OSError if a scrape, preview or page failed."""
        assert not any(thread.is_alive() for thread in self._threads)
        if self._failure is not None:
            raise self._failure
        return Watched(
            len(self._scrapes),
            self._reloads,
            self._previews,
            self._page_bytes,
            *lags(self._scrapes),
        )

    def _run(self) -> None:
        due = monotonic()
        try:
            while True:
                self._scrapes.append(read_lag(_good(self._url, get).decode()))
                if self._preview:
                    _counted(self._preview)
                    self._previews += 1
                if self._reload is not None and not self._reloads and due >= self._reload_at:
                    self._reload()
                    self._reloads += 1
                due += SCRAPE_INTERVAL_S
                if self._stopped.wait(max(0.0, due - monotonic())):
                    self._scrapes.append(read_lag(_good(self._url, get).decode()))
                    return
        except OSError as error:
            self._failure = error

    def _read_page(self) -> None:
        try:
            with stream(self._page) as response:
                while True:
                    # Parts that have not changed are not sent, but a line each few seconds is.
                    self._page_bytes += len(_piece(self._page, response))
                    if self._stopped.is_set():
                        return
        except OSError as error:
            self._failure = error


def _good(url: str, ask: Callable[[str], tuple[int, bytes]]) -> bytes:
    status, body = ask(url)
    if status != 200:
        raise OSError(f"{url} answered {status}: {body[:200]!r}")
    return body


def _counted(url: str) -> None:
    """Make a preview; its last line has the result."""
    said = _good(url, post)
    last = said.splitlines()[-1] if said else b""
    if json.loads(last or b"{}").get("event") != "result":
        raise OSError(f"{url} answered {said[-200:]!r}")


def _piece(url: str, response: HTTPResponse) -> bytes:
    piece = response.read1()
    if response.status != 200 or not piece:
        raise OSError(f"{url} answered {response.status} and ended: {piece[:200]!r}")
    return piece
