"""Prepare the load generator's data: remote-write requests, encoded and compressed before a run.

* A :class:`Shape` determines everything: two data sets of one shape are equal byte for byte, and a
  receiver can compute the value of every series at every time.
* A *round* is one sample for every *slot*, like one scrape of the whole platform. A request is a
  contiguous part of a round, in a fixed order unless the shape says otherwise. Series of one target
  are adjacent and share their time.
* Every series has the label :data:`MARKER` once, with its number, and nothing else contains that
  text: its occurrences in a decompressed OTLP or remote-write 1.0 body count the series.
* The series of a classic histogram share one number: one marker is one histogram in OTLP.
* Series of a scrape (:mod:`bench.scrape`) omit values of 0, as senders do; others have none.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

from bench import bodies, scrape
from bench.bodies import Encoding, Label, Protocol
from bench.labels import (
    MARKER,
    SERIES_PER_TARGET,
    LabelSet,
    exporter_of,
    histogram_labels_of,
    is_wanted,
    labels_of,
)

# Re-exported for the micro-benchmarks.
__all__ = ["MARKER", "labels_of"]

SCRAPE_INTERVAL_MS = 15_000

BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
SERIES_PER_HISTOGRAM = len(BOUNDS) + 2
"""Twelve buckets, the sum and the count."""

HISTOGRAM = "http_request_duration_seconds"
_HISTOGRAMS_PER_TARGET = 7

RENEWED_TARGETS = 5
"""With churn, one of this many targets is new in every round: 20 % of the series."""

Value = float | tuple[float, ...]
"""A number; or a histogram's count, sum, bounds but the last, and counts by bucket."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Parameters of a data set. ``start_ms`` is the time of the first round.

    ``series`` is the number of slots of a round, including all series of histograms. ``churn``: see
    :data:`RENEWED_TARGETS`. ``shuffled``: every request has an order of its own. ``scattered``: a
    scrape's series in a fixed worst-case order. ``projects``: see :func:`bench.labels.labels_of`; 0
    stands for None.
    """

    start_ms: int
    rounds: int
    series: int = 50_000
    series_per_request: int = 2_000
    encoding: Encoding = "snappy"
    protocol: Protocol = "1.0"
    content: Literal["numbers", "histograms", "scrape"] = "numbers"
    label_set: LabelSet = "platform"
    churn: bool = False
    shuffled: bool = False
    scattered: bool = False
    projects: int = 0

    def __post_init__(self) -> None:
        assert self.rounds > 0
        assert self.series > 0
        assert self.series_per_request > 0
        assert bodies.TIME_MS_MIN <= self.start_ms < bodies.TIME_MS_MAX
        if self.churn:
            assert self.protocol == "1.0", "symbols are not encoded anew"
        if self.content != "numbers":
            assert not self.churn
            assert not self.shuffled
            assert not self.projects
        if self.content == "histograms":
            # A run must not end in the middle of a histogram.
            assert self.series % SERIES_PER_HISTOGRAM == 0
            assert self.series_per_request % SERIES_PER_HISTOGRAM == 0
        if self.content == "scrape":
            assert self.protocol == "1.0", "symbols would have heads of one kind only"
            assert self.series % self._series_per_target == 0, "whole targets only"
        else:
            assert not self.scattered
            assert self.label_set != "exposed"

    @property
    def series_per_point(self) -> int:
        """Number of samples that a peer turns into one point."""
        return SERIES_PER_HISTOGRAM if self.content == "histograms" else 1

    def number(self, slot: int, round_number: int) -> int:
        """Return the number of the series in a slot in a round: the marker's value."""
        if self.content == "histograms":
            return slot // SERIES_PER_HISTOGRAM
        if self.scattered:
            return scrape.scattered_number(slot, self.series // self._series_per_target)
        return slot + self.series * round_number if self._is_renewed(slot) else slot

    def time_ms(self, number: int, round_number: int) -> int:
        """Return the time of a series' sample in a round, in ms.

        Targets are spread over the scrape interval.
        """
        spread = number // self._series_per_target * 7919 % SCRAPE_INTERVAL_MS
        return self.start_ms + round_number * SCRAPE_INTERVAL_MS + spread

    def round_of(self, number: int, time_ms: int) -> int:
        """Return the round in which a series has a sample at ``time_ms``; -1 if there is none."""
        found, rest = divmod(time_ms - self.time_ms(number, 0), SCRAPE_INTERVAL_MS)
        if rest or not 0 <= found < self.rounds:
            return -1
        if self.content == "scrape":
            return found if number < self.series else -1
        slot = number % self.series * self.series_per_point
        return found if slot < self.series and self.number(slot, found) == number else -1

    def value(self, number: int, round_number: int) -> Value:
        """Return the value that a peer must deliver for a series in a round."""
        if self.content == "histograms":
            buckets = _increments(number, round_number)
            bounds = tuple(float(bound) for bound in BOUNDS[:-1])
            return (sum(buckets), value_of(number, round_number), *bounds, *buckets)
        if self.content == "scrape":
            return scrape.value_of(number, round_number, SCRAPE_INTERVAL_MS)
        return value_of(number, round_number)

    @property
    def _series_per_target(self) -> int:
        """Number of consecutive series that are sampled at the same time."""
        if self.content == "scrape":
            return len(scrape.exposed())
        return _HISTOGRAMS_PER_TARGET if self.content == "histograms" else SERIES_PER_TARGET

    def _is_renewed(self, slot: int) -> bool:
        return self.churn and slot // SERIES_PER_TARGET % RENEWED_TARGETS == RENEWED_TARGETS - 1


def value_of(series: int, round_number: int) -> float:
    """Return a value, never 0.

    Even series count up in whole steps, odd ones vary in three decimals.
    """
    if series % 2 == 0:
        return float((series % 97 + 1) * (round_number + 1) + series)
    return ((series * 2_654_435_761 + round_number * 7_368_787) % 1_000_003 + 1) / 1000


def _increments(histogram: int, round_number: int) -> list[float]:
    """Return the count of each bucket, not cumulative."""
    step = round_number + 1
    return [float((histogram % 7 + 1 + index % 3) * step) for index in range(len(BOUNDS))]


def _members(histogram: int, round_number: int) -> list[float]:
    """Return the values of a histogram's series, in their order."""
    buckets = list(accumulate(_increments(histogram, round_number)))
    return [*buckets, value_of(histogram, round_number), buckets[-1]]


@dataclass(frozen=True, slots=True)
class Request:
    """Place of one compressed body in the data set's file, and its contents."""

    offset: int
    size: int
    samples: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set on disk: ``bodies.bin`` and ``index.json`` in ``directory``."""

    directory: Path
    shape: Shape
    requests: tuple[Request, ...]
    decoded_bytes: int

    @property
    def bodies(self) -> Path:
        """The file with the compressed bodies, one after the other."""
        return self.directory / "bodies.bin"

    @property
    def requests_per_round(self) -> int:
        """Number of requests that send every slot once."""
        return len(self.requests) // self.shape.rounds

    def sent(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield (request, times) for ``count`` requests from number ``first`` on, cyclically."""
        whole, rest = divmod(count, len(self.requests))
        for index in range(len(self.requests)):
            times = whole + ((index - first) % len(self.requests) < rest)
            if times:
                yield index, times

    def exporters(self, index: int) -> Counter[str]:
        """Return the number of a request's samples for each tenant's exporter."""
        assert self.shape.projects, "a data set without tenants"
        return _exporters(self.shape, index % self.requests_per_round)


@cache
def _exporters(shape: Shape, position: int) -> Counter[str]:
    first = position * shape.series_per_request
    stop = min(first + shape.series_per_request, shape.series)
    return Counter(exporter_of(series, shape.projects) for series in range(first, stop))


def write_dataset(directory: Path, shape: Shape) -> Dataset:
    """Encode and compress every request of ``shape`` into ``directory``, which must exist."""
    stretches = [
        _Stretch(shape, range(first, min(first + shape.series_per_request, shape.series)))
        for first in range(0, shape.series, shape.series_per_request)
    ]
    requests: list[Request] = []
    offset = decoded_bytes = 0
    with (directory / "bodies.bin").open("wb") as out:
        for round_number in range(shape.rounds):
            for stretch in stretches:
                body, wanted = stretch.body(round_number)
                packed = bodies.compress(body, shape.encoding)
                out.write(packed)
                requests.append(Request(offset, len(packed), len(stretch.slots), wanted))
                offset += len(packed)
                decoded_bytes += len(body)
    dataset = Dataset(directory, shape, tuple(requests), decoded_bytes)
    index = {
        "shape": asdict(shape),
        "decoded_bytes": decoded_bytes,
        "requests": [[r.offset, r.size, r.samples, r.wanted] for r in requests],
    }
    (directory / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return dataset


def read_dataset(directory: Path) -> Dataset:
    """Read the data set that :func:`write_dataset` wrote to ``directory``."""
    index = json.loads((directory / "index.json").read_text(encoding="utf-8"))
    requests = tuple(Request(*row) for row in index["requests"])
    return Dataset(directory, Shape(**index["shape"]), requests, index["decoded_bytes"])


class _Stretch:
    """One request's part of every round."""

    def __init__(self, shape: Shape, slots: range) -> None:
        self.slots = slots
        self._shape = shape
        self._rng = random.Random(slots.start)
        self._numbers = [shape.number(slot, 0) for slot in slots]
        self._count: int | None = None
        self._preamble = b""
        if shape.protocol == "2.0":
            self._preamble, self._heads = bodies.heads2(map(self._labels, slots, self._numbers))
        else:
            labels = [self._labels(*pair) for pair in zip(slots, self._numbers, strict=True)]
            self._heads = list(map(bodies.head1, labels))
            if shape.content == "scrape":
                self._zero_heads = list(map(bodies.zero_head1, labels))

    def body(self, round_number: int) -> tuple[bytes, int]:
        """Return a round's body, and how many samples the proposal's selector selects in it."""
        shape = self._shape
        if shape.churn and round_number:
            self._renew(round_number)
        numbers, heads = self._numbers, self._heads
        if shape.shuffled:
            order = list(range(len(heads)))
            self._rng.shuffle(order)
            numbers = [numbers[at] for at in order]
            heads = [heads[at] for at in order]
        tails = list(self._tails(numbers, round_number))
        if shape.content == "histograms":
            whole = numbers[::SERIES_PER_HISTOGRAM]
            values = [value for one in whole for value in _members(one, round_number)]
            wanted = 0
        elif shape.content == "scrape":
            values = [scrape.value_of(one, round_number, SCRAPE_INTERVAL_MS) for one in numbers]
            both = zip(values, heads, self._zero_heads, strict=True)
            heads = [head if value else zero_head for value, head, zero_head in both]
            wanted = self._wanted()
        else:
            values = [value_of(number, round_number) for number in numbers]
            wanted = self._wanted()
        zeros = shape.content == "scrape"
        return bodies.join(self._preamble, heads, values, tails, leaves_out_zeros=zeros), wanted

    def _labels(self, slot: int, number: int) -> Iterable[Label]:
        shape = self._shape
        if shape.content == "numbers":
            return labels_of(number, shape.label_set, shape.projects or None).items()
        if shape.content == "scrape":
            return scrape.labels_of(number, shape.label_set)
        member = slot % SERIES_PER_HISTOGRAM
        labels = histogram_labels_of(number, shape.label_set)
        if member < len(BOUNDS):
            labels |= {"__name__": f"{HISTOGRAM}_bucket", "le": BOUNDS[member]}
        else:
            labels["__name__"] = f"{HISTOGRAM}_{'sum' if member == len(BOUNDS) else 'count'}"
        return sorted(labels.items())

    def _renew(self, round_number: int) -> None:
        """Replace the series that this round renews; 1.0 only, which has no shared symbols."""
        for at, slot in enumerate(self.slots):
            number = self._shape.number(slot, round_number)
            if number != slot:
                self._numbers[at] = number
                self._heads[at] = bodies.head1(self._labels(slot, number))
        self._count = None

    def _tails(self, numbers: Sequence[int], round_number: int) -> Iterator[bytes]:
        tails: dict[int, bytes] = {}
        for number in numbers:
            time_ms = self._shape.time_ms(number, round_number)
            tail = tails.get(time_ms)
            if tail is None:
                tail = tails[time_ms] = bodies.tail(time_ms, self._shape.protocol)
            yield tail

    def _wanted(self) -> int:
        if self._count is None:
            selects = scrape.is_wanted if self._shape.content == "scrape" else is_wanted
            self._count = sum(map(selects, self._numbers))
        return self._count
