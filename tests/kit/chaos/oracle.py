"""What must be true of every sample: sent with a number, acknowledged or not, arrived or not.

The oracle knows nothing of the relay. A sender tells it what it sent and what was acknowledged,
endpoints tell it what arrived; it says what is missing, and fails at once for what cannot be.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.kit.oracle.number_points import Point
from tests.kit.remote_write.raw import join, snappy, text_series

METRIC = "chaos_value"
BASE_MS = 1_700_000_000_000


class Sample(NamedTuple):
    """One sample: its series (sender and number), its time. Its value is its number in order."""

    sender: int
    series: int
    timestamp_ms: int


@dataclass
class Arrivals:
    """What one endpoint took: how often each sample, and when the first of each request."""

    wants: frozenset[int]
    """Senders whose samples belong here."""
    counts: Counter[int] = field(default_factory=Counter)
    newest_ms: dict[tuple[int, int], int] = field(default_factory=dict)
    """Time of the newest sample by series, to see that first arrivals are in order."""
    out_of_order: list[str] = field(default_factory=list)

    @property
    def duplicates(self) -> int:
        """Arrivals beyond the first of each sample."""
        return self.counts.total() - len(self.counts)


class Oracle:
    """Keeps the account. ``endpoints`` maps names to the senders whose samples they are to get."""

    def __init__(self, endpoints: Mapping[str, Iterable[int]]) -> None:
        self.arrivals = {name: Arrivals(frozenset(wants)) for name, wants in endpoints.items()}
        self.acknowledged: set[int] = set()
        self._sent: list[Sample] = []
        self._by_key: dict[Sample, int] = {}

    @property
    def sent(self) -> int:
        """Samples that were sent, whatever came of them."""
        return len(self._sent)

    def request(self, sender: int, *, series: int, number: int) -> tuple[range, bytes]:
        """A snappy WriteRequest with the sender's next sample of each series, and the samples'
        numbers."""
        written = []
        first = len(self._sent)
        timestamp_ms = BASE_MS + number * 1000
        for index in range(series):
            sample = Sample(sender, index, timestamp_ms)
            assert sample not in self._by_key
            self._by_key[sample] = len(self._sent)
            labels = {"__name__": METRIC, "n": str(index), "sender": str(sender)}
            written.append(text_series(labels, (float(len(self._sent)), timestamp_ms)))
            self._sent.append(sample)
        return range(first, len(self._sent)), snappy(join(written))

    def acknowledge(self, numbers: range) -> None:
        """The relay answered 2xx to a request with these samples."""
        self.acknowledged.update(numbers)

    def arrive(self, endpoint: str, points: Iterable[Point]) -> None:
        """An endpoint took these points. AssertionError for what was never sent like that."""
        arrivals = self.arrivals[endpoint]
        for point in points:
            attributes = dict(point.attributes)
            sample = Sample(
                int(attributes["sender"]), int(attributes["n"]), point.time_ns // 1_000_000
            )
            assert point.name == METRIC
            assert point.time_ns % 1_000_000 == 0
            number = self._by_key.get(sample)
            assert number is not None, f"{endpoint}: {sample} was never sent"
            (value,) = struct.unpack("<d", struct.pack("<Q", point.value_bits))
            assert value == number, f"{endpoint}: {sample} has value {value}, not {number}"
            assert sample.sender in arrivals.wants, f"{endpoint} must not get {sample}"
            arrivals.counts[number] += 1
            if arrivals.counts[number] == 1:
                self._check_order(endpoint, arrivals, sample)

    def missing(self, endpoint: str) -> list[int]:
        """Acknowledged samples that an endpoint ought to have and has not."""
        arrivals = self.arrivals[endpoint]
        return sorted(
            number
            for number in self.acknowledged
            if number not in arrivals.counts and self._sent[number].sender in arrivals.wants
        )

    def complete(self) -> bool:
        """Whether every acknowledged sample arrived wherever it belongs."""
        return not any(self.missing(name) for name in self.arrivals)

    def describe(self) -> Iterator[str]:
        """Figures, a line for each endpoint."""
        yield f"sent {self.sent} samples, acknowledged {len(self.acknowledged)}"
        for name, arrivals in self.arrivals.items():
            yield (
                f"{name}: {len(arrivals.counts)} arrived, {len(self.missing(name))} missing, "
                f"{arrivals.duplicates} duplicates, {len(arrivals.out_of_order)} out of order"
            )

    @staticmethod
    def _check_order(endpoint: str, arrivals: Arrivals, sample: Sample) -> None:
        series = (sample.sender, sample.series)
        newest = arrivals.newest_ms.get(series, 0)
        if sample.timestamp_ms < newest:
            arrivals.out_of_order.append(f"{endpoint}: {sample} after {newest}")
        else:
            arrivals.newest_ms[series] = sample.timestamp_ms

    def __repr__(self) -> str:
        return f"<Oracle {self.sent} sent, {len(self.acknowledged)} acknowledged>"
