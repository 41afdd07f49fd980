"""What a kernel remembers from one request for the next, besides the series themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relay.pipeline.series import Series
    from relay.pipeline.stretches import Stretch

STAMPS_MAX: Final = 65_536
"""Encoded times before they are forgotten: some 10 MB at the worst."""
STRETCHES_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of labels that are kept a second time, within stretches."""


class Memo:
    """Bounded; where it is full, it is emptied and learns again.

    ``stamps`` maps the time of a sample, with its tag, to what :func:`relay.wire.otlp.encode_time`
    makes of it. Only six-byte varints are kept: those are the times from 1971 to 2109, all of which
    OTLP can express. ``stretches`` are those of the interpreted build, by their first series.
    """

    __slots__ = ("_stretches_bytes", "stamps", "stretches")

    def __init__(self) -> None:
        self.stamps: dict[bytes, bytes] = {}
        self.stretches: dict[Series, Stretch] = {}
        self._stretches_bytes = 0

    def remember(self, timestamp_ms: int, stamp: bytes) -> None:
        """Keep a time, if it is one of those that are kept."""
        if not 1 << 35 <= timestamp_ms < 1 << 42:
            return
        if len(self.stamps) >= STAMPS_MAX:
            self.stamps.clear()
        encoded = bytearray(b"\x10")  # Sample.timestamp (2)
        rest = timestamp_ms
        while rest > 127:
            encoded.append(rest & 0x7F | 0x80)
            rest >>= 7
        encoded.append(rest)
        assert len(encoded) == 7
        self.stamps[bytes(encoded)] = stamp

    def keep(self, first: Series, stretch: Stretch) -> None:
        """Keep a stretch, in place of the one that began with the same series."""
        self.drop(first)
        self._stretches_bytes += stretch.layout.size
        if self._stretches_bytes > STRETCHES_BYTES_MAX:
            self.stretches.clear()
            self._stretches_bytes = stretch.layout.size
        self.stretches[first] = stretch

    def drop(self, first: Series) -> None:
        """Forget the stretch that begins with this series, if there is one."""
        old = self.stretches.pop(first, None)
        if old is not None:
            self._stretches_bytes -= old.layout.size

    def __repr__(self) -> str:
        return f"<Memo {len(self.stamps)} times, {len(self.stretches)} stretches>"
