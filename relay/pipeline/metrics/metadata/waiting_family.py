"""The families that wait for metadata, their series, and the samples that wait."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from relay.codec.remote_write.label_parser import SeriesLabels
from relay.pipeline.batching.emitter import Emitter, SampleProcessor
from relay.pipeline.batching.transaction import IngestMark, SampleExtras
from relay.pipeline.batching.unfinished import WAITING
from relay.pipeline.metrics.metadata.project_types import Declaration
from relay.pipeline.routing.match_set import SinkCounter
from relay.pipeline.routing.route import VersionedDependency
from relay.runtime.lazy_deque import LazyDeque

Key = tuple[str, str]
"""A project, and the root of a family's names."""


class WaitingSample(NamedTuple):
    """A waiting sample; ``series`` is the handler that received it."""

    series: FirstSamples
    stamp: bytes
    value: bytes
    extra: SampleExtras | None
    origin: IngestMark


class WaitingFamily:
    """A family without a known type; a waiter for checkpoints once it has samples."""

    __slots__ = (
        "bytes",
        "due",
        "fact",
        "key",
        "last",
        "leaves",
        "members",
        "names",
        "needed_until",
        "origin",
        "out",
        "samples",
        "share",
    )

    def __init__(self, key: Key, share: str, due: float) -> None:
        self.key = key
        self.share: Final = share
        """Project in whose share it counts; see :mod:`relay.runtime.project_shares`."""
        self.due = due
        self.fact = VersionedDependency()
        self.names: frozenset[str] = frozenset()
        self.members: dict[NamedSeries, FirstSamples] = {}
        """Handlers of its series, until these have their routes."""
        self.samples: LazyDeque[WaitingSample] = LazyDeque()
        self.last = -1
        """Position of the last sample that left."""
        self.bytes = 0
        self.origin = IngestMark(-1, 0.0)
        self.needed_until = WAITING
        self.leaves = False
        """True once its samples leave; others that come meanwhile wait behind them."""
        self.out = False
        """True once it no longer waits: its handlers then pass samples on at once."""

    def waiting_key(self) -> bytes:
        """Return the family's key, the same in every process."""
        return waiting_key(self.key)

    def __repr__(self) -> str:
        return f"<WaitingFamily {self.key} {len(self.samples)} samples>"


class NamedSeries(Protocol):
    """A series, of which this package needs the name only."""

    name: str


class WaitingPlace(Protocol):
    """The owner of the handlers of series that wait."""

    def put(self, sample: WaitingSample, emitter: Emitter) -> None:
        """Let a sample wait."""
        ...

    def handlers_of(self, series: FirstSamples) -> tuple[SampleProcessor, ...]:
        """Return the present handlers of a series whose samples waited."""
        ...

    def is_current(self, series: FirstSamples) -> bool:
        """Return True if nothing changed that the handlers of a series were made from."""
        ...


class FirstSamples:
    """Sample processor of one series whose family waits.

    It refers to the series, and the series to it, until the wait ends.
    """

    __slots__ = (
        "_handlers",
        "_home",
        "declared",
        "family",
        "labels",
        "made",
        "name",
        "prepared",
        "series",
        "sinks",
        "waiting",
    )

    def __init__(
        self,
        home: WaitingPlace,
        family: WaitingFamily,
        series: NamedSeries,
        labels: SeriesLabels,
        declared: Declaration | None,
    ) -> None:
        self._home = home
        self._handlers: tuple[SampleProcessor, ...] | None = None
        self.family = family
        self.name = series.name
        self.series: NamedSeries | None = series
        """None once the wait is over."""
        self.made: NamedSeries | None = None
        """Has the routes that its handlers are of, and all that these depend on."""
        self.prepared = False
        """True if the series gets these routes when the wait is over; else it is resolved anew."""
        self.labels = labels
        self.declared = declared
        """Latest declaration of the series."""
        self.waiting = 0
        """Its samples that wait."""
        self.sinks: tuple[SinkCounter, ...] = ()
        """Those that these samples count for."""

    def take(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Let the sample wait, or pass it on if the family no longer waits."""
        if self.family.out:
            self.send(stamp, value, extra, emitter)
        else:
            self._home.put(WaitingSample(self, stamp, value, extra, emitter.origin), emitter)

    def send(
        self, stamp: bytes, value: bytes, extra: SampleExtras | None, emitter: Emitter
    ) -> None:
        """Pass a sample to the present handlers of its series.

        They are made anew where sinks, types or members of a histogram changed between two samples.
        """
        if self._handlers is None or not self._home.is_current(self):
            self._handlers = self._home.handlers_of(self)
        for handler in self._handlers:
            handler.take(stamp, value, extra, emitter)
        if extra is not None and not self._handlers:
            emitter.transaction.note_exemplars(len(extra.exemplars), is_sent=False)

    def rest(self) -> None:
        """Forget what sending has made.

        The series may never come again; if it does, it is resolved anew.
        """
        self._handlers = self.made = None
        self.prepared = False
        self.labels.forget_texts()

    def __repr__(self) -> str:
        return f"<FirstSamples of {self.name}>"


def waiting_key(key: Key) -> bytes:
    """Return the waiting key of a family, the same in every process."""
    text = f"first sight {key!r}".encode(errors="surrogatepass")
    return blake2b(text, digest_size=16).digest()
