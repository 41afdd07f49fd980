"""Tap a sink: see sampled points as they are handed to it.

* A tap looks at batches, never at samples: a sink without one pays a comparison for each batch. It
  encodes at most one batch in :data:`SPACING_S`, of at most :data:`BATCH_POINTS_MAX` points, and
  keeps at most :data:`KEPT_MAX` of them; all others are counted as not shown.
* A sink has at most one tap, the relay :data:`TAPS_MAX`. Each ends by itself, at its time or number
  of points.
* The operator must allow taps (``admin.tap``): they show customers' data.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.records.outputs import unit_of
from relay.config.exporter.types import Exporter, Sink
from relay.control.preview.service import require_running
from relay.control.sink_test.service import require_sink
from relay.control.tap.points import read_points
from relay.control.tap.tapped_point import TappedPoint
from relay.runtime.errors import ConfigError, Fault, OverloadedError
from relay.runtime.event_loop import run_in_thread
from relay.sink.interface import Encoder
from relay.sink.kinds import encoders_for

_log = logging.getLogger("relay.sink")

SPACING_S: Final = 0.2
"""Least time between two batches that are encoded; s."""
BATCH_POINTS_MAX: Final = 5_000
KEPT_MAX: Final = 4
"""Encoded batches that wait for the reader."""
POINTS_OF_BATCH: Final = 20
"""Points that are shown of one batch."""
SECONDS_MAX: Final = 60.0
POINTS_MAX: Final = 1_000
TAPS_MAX: Final = 4

NOT_ALLOWED: Final = "admin.tap: is false: the operator does not allow taps of live data"


class TapForbiddenError(ConfigError):
    """Report that the operator does not allow taps."""

    def __init__(self) -> None:
        super().__init__([Fault("", NOT_ALLOWED)])


class TappedSink(Protocol):
    """The part of a sink's worker that taps use; ``tap`` gets each batch before it is queued.

    A batch is of the kind of ``config``, which may change.
    """

    config: Sink
    tap: Callable[[SealedBatch], None] | None


@dataclass(frozen=True, slots=True)
class TapQuery:
    """A tap of one sink of a running exporter (its id); ``sink`` "" is the only one it has.

    With ``/logs`` or ``/traces`` behind it, it is the output of these.
    """

    exporter: str
    sink: str = ""
    seconds: float = 10.0
    points: int = 100


@dataclass(frozen=True, slots=True)
class TapEnd:
    """The end of a tap: batches and points that were handed to the sink, and points shown.

    ``unit`` is the word for what the points are.
    """

    batches: int
    points: int
    shown: int
    unit: str = "points"

    def document(self) -> dict[str, Any]:
        """Return the form in JSON."""
        return {
            "batches": self.batches,
            "points": self.points,
            "shown": self.shown,
            "unit": self.unit,
        }


TapEvent = TappedPoint | TapEnd


def tap_document(event: TapEvent) -> dict[str, Any]:
    """Return the form of an event in JSON, with its name."""
    name = "end" if isinstance(event, TapEnd) else "point"
    return {"event": name, **event.document()}


class BatchTap:
    """Gets a sink's batches and keeps some of them, encoded.

    ``encoder`` returns the sink's present one; ``tick`` is monotonic, s.
    """

    def __init__(
        self, encoder: Callable[[], Encoder], tick: Callable[[], float] = time.monotonic
    ) -> None:
        self._encoder = encoder
        self._tick = tick
        self._next_at = 0.0
        self._kept: deque[tuple[str, bytes, int]] = deque()
        self._came = asyncio.Event()
        self.batches = 0
        self.points = 0

    def __call__(self, sealed: SealedBatch) -> None:
        """Look at a batch, which stays as it is. Never raises."""
        self.batches += 1
        self.points += sealed.count
        now = self._tick()
        if now < self._next_at or len(self._kept) >= KEPT_MAX or sealed.count > BATCH_POINTS_MAX:
            return
        self._next_at = now + SPACING_S
        try:
            encoder = self._encoder()
            self._kept.append((encoder.kind, encoder.encode(sealed), sealed.count))
        except Exception:
            # The sink must get its batch whatever is wrong here.
            _log.exception("bug in the relay: a batch cannot be shown")
        self._came.set()

    async def take(self) -> list[TappedPoint]:
        """Wait for a batch and return some of its points."""
        while not self._kept:
            self._came.clear()
            await self._came.wait()
        kind, body, count = self._kept.popleft()
        # A large batch takes some 50 ms to read.
        return await run_in_thread(partial(read_points, kind, body, count, POINTS_OF_BATCH))

    def __repr__(self) -> str:
        return f"<BatchTap {self.batches} batches, {len(self._kept)} kept>"


class TapService:
    """Taps sinks of ``running`` exporters; ``worker`` returns that of an exporter id and sink."""

    def __init__(
        self,
        running: Callable[[], Iterable[Exporter]],
        worker: Callable[[str, str], TappedSink | None],
        *,
        allowed: bool,
    ) -> None:
        self._running = running
        self._worker = worker
        self._allowed = allowed
        self._taps = 0

    def open(self, query: TapQuery) -> AsyncIterator[TapEvent]:
        """Return the events of a tap, to be read to the end or closed.

        Raises TapForbiddenError where taps are not allowed, ConfigError where the sink does not
        run, OverloadedError where there are too many.
        """
        if not self._allowed:
            raise TapForbiddenError
        if not 0 < query.seconds <= SECONDS_MAX:
            raise ConfigError([Fault("seconds", f"must be from 1 to {SECONDS_MAX:g}")])
        if not 0 < query.points <= POINTS_MAX:
            raise ConfigError([Fault("points", f"must be from 1 to {POINTS_MAX}")])
        exporter = require_running(self._running(), query.exporter)
        name = require_sink(exporter, query.sink).name
        worker = self._worker(exporter.id, name)
        if worker is None:
            raise ConfigError([Fault("sink", f"{name} has just been removed")])
        if worker.tap is not None:
            raise OverloadedError(f"sink {name} has a tap already")
        if self._taps >= TAPS_MAX:
            raise OverloadedError(f"there are {self._taps} taps already")
        tap = BatchTap(lambda: encoders_for(worker.config.endpoint).new)
        return self._events(worker, tap, query)

    async def _events(
        self, worker: TappedSink, tap: BatchTap, query: TapQuery
    ) -> AsyncIterator[TapEvent]:
        if worker.tap is not None:
            return  # another one was opened at the same time
        worker.tap = tap
        self._taps += 1
        shown = 0
        try:
            end = asyncio.get_running_loop().time() + query.seconds
            while shown < query.points:
                try:
                    async with asyncio.timeout_at(end):
                        points = await tap.take()
                except TimeoutError:
                    break
                for point in points[: query.points - shown]:
                    shown += 1
                    yield point
            yield TapEnd(tap.batches, tap.points, shown, unit_of(worker.config.name))
        finally:
            worker.tap = None
            self._taps -= 1

    def __repr__(self) -> str:
        return f"<TapService {self._taps} taps>"
