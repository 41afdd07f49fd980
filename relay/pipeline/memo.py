"""What a kernel remembers from one request for the next, besides the series themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.wire.otlp import encode_time

if TYPE_CHECKING:
    from relay.pipeline.series import Series
    from relay.pipeline.stretches import Stretch

STAMPS_MAX: Final = 65_536
"""Encoded times before they are forgotten: some 10 MB at the worst."""
STRETCHES_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of labels and attributes that are kept a second time, within stretches."""

SERIES_PRICE: Final = 32
"""What it costs to put a series into a stretch, in samples that came: so where streams change again
and again, that adds an eighth to the cost of taking them singly, and does not multiply it."""
CREDIT_MAX: Final = SERIES_PRICE * 200_000
"""Saved up, and what there is at first: as many as are kept can be learnt at once."""

_TIME_TAG: Final = 0x10  # Sample.timestamp (2)
_TIME_BYTES: Final = 7


class Stamps(dict[bytes, "bytes | None"]):
    """The time of a sample, with its tag, as :func:`relay.wire.otlp.encode_time` makes it.

    None, and nothing is kept, for what is no varint of six bytes, as short as it can be: those are
    the times from 1971 to 2109, all of which OTLP can express.
    """

    __slots__ = ()

    def __missing__(self, encoded: bytes) -> bytes | None:
        """Work out a time that is new."""
        if len(encoded) != _TIME_BYTES or encoded[0] != _TIME_TAG or not 0 < encoded[6] < 128:
            return None
        time_ms = encoded[6]
        for byte in encoded[5:0:-1]:
            if byte < 128:
                return None
            time_ms = time_ms << 7 | byte & 0x7F
        if len(self) >= STAMPS_MAX:
            self.clear()
        stamp = self[encoded] = encode_time(time_ms)
        return stamp


class Memo:
    """Bounded; where it is full, it is emptied and learns again.

    ``stretches`` are those of the interpreted build, by each of their series; ``guesses`` what the
    compiled one keeps for each origin, by the root of its series.
    """

    __slots__ = ("_credit", "_stretches_bytes", "guesses", "stamps", "stretches")

    def __init__(self) -> None:
        self.stamps = Stamps()
        self.stretches: dict[Series, Stretch] = {}
        self.guesses: dict[Series, object] = {}
        self._stretches_bytes = 0
        self._credit = CREDIT_MAX

    @property
    def is_poor(self) -> bool:
        """Whether no stretch may be made for now."""
        return self._credit <= 0

    def earn(self, samples: int) -> None:
        """So many samples came, however they were taken; twice that, if by stretches."""
        self._credit = min(self._credit + samples, CREDIT_MAX)

    def pay(self, series: int) -> None:
        """A stretch of so many series was made, or tried to be."""
        self._credit -= SERIES_PRICE * series

    def keep(self, stretch: Stretch) -> None:
        """Keep a stretch, in place of those that any of its series was in."""
        for old in {self.stretches.get(member) for member in stretch.members}:
            if old is not None:
                self.drop(old)
        self._stretches_bytes += stretch.room
        if self._stretches_bytes > STRETCHES_BYTES_MAX:
            self.stretches.clear()
            self._stretches_bytes = stretch.room
        self.stretches |= dict.fromkeys(stretch.members, stretch)

    def release(self, series: Series) -> None:
        """Forget the stretch of a series that goes another way from now on, or is forgotten, if it
        is in one. One with the same labels may come in its place, and go another way."""
        stretch = self.stretches.get(series)
        if stretch is not None:
            self.drop(stretch)

    def drop(self, stretch: Stretch) -> None:
        """Forget a stretch that is kept."""
        self._stretches_bytes -= stretch.room
        for member in stretch.members:
            del self.stretches[member]

    def __repr__(self) -> str:
        return f"<Memo {len(self.stamps)} times, {len(self.stretches)} series in stretches>"
