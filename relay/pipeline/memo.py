"""What the kernel remembers from one request for the next, besides the series themselves."""

from __future__ import annotations

from typing import Final

from relay.pipeline.guesses import Guesses
from relay.pipeline.series import Series
from relay.wire.otlp import encode_time

STAMPS_MAX: Final = 65_536
"""Encoded times before they are forgotten: some 10 MB at the worst."""
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
    """What the kernel keeps between requests: ``stamps``, and ``guesses`` for each origin, by the
    root of its series."""

    __slots__ = ("guesses", "stamps")

    def __init__(self) -> None:
        self.stamps = Stamps()
        self.guesses: dict[Series, Guesses] = {}

    def __repr__(self) -> str:
        return f"<Memo {len(self.stamps)} times, {len(self.guesses)} origins>"
