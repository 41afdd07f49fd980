"""What a stretch of known series looks like in a body: all but values and times.

Everything is compared, byte by byte, at once: the values are read, and the times, and what the body
would be with these is made and compared. Rules:

* Samples of one target mostly share their time. So one time is read for each *section*, series of
  one target, and stands for all of it; where that does not fit, every time is read from then on.
* What the labels of a section's series end with is kept once for all of them: to fetch each series'
  own from memory costs more than to copy it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from struct import Struct
from typing import Final, NamedTuple

from relay.pipeline.unusual import TIME_HEAD, VALUE_HEAD
from relay.wire.blocks import common_end

TIME_BYTES: Final = 7
"""Of the time of a usual sample, with its tag."""

SAMPLE_HEADS: Final = {8: VALUE_HEAD, 0: TIME_HEAD}
"""What stands between the labels and the value of a usual sample, by the value's bytes."""

_PARTS = 4
_VALUES, _TIMES = slice(2, None, _PARTS), slice(3, None, _PARTS)
_POINT_ROOM: Final = 128
"""What the pieces of a sample, and what a Struct knows of it, take besides their bytes, roughly."""


class Place(NamedTuple):
    """Where a series with one usual sample stands: what stands ``before`` its labels, these, and
    the bytes that its value has, 8 or none."""

    before: bytes
    key: bytes
    width: int

    @property
    def size(self) -> int:
        """All of its bytes."""
        sample_bytes = len(SAMPLE_HEADS[self.width]) + self.width + TIME_BYTES
        return len(self.before) + len(self.key) + sample_bytes


class Samples(NamedTuple):
    """Values and times of a stretch, as they stand in the body. ``shared``: the times are those of
    the sections, not of the series."""

    values: tuple[bytes, ...]
    times: Sequence[bytes]
    shared: bool


class Outline:
    """See the module's rules. ``size`` is how many bytes it has in a body, ``room`` what it takes;
    ``sections`` tile the places."""

    __slots__ = ("_each", "_frame", "_layout", "_sections", "room", "size")

    def __init__(self, places: Sequence[Place], sections: Sequence[slice]) -> None:
        self._frame: list[bytes] = []
        self._sections: list[tuple[int, int]] = []  # how many series; where the first one's time is
        at = 0
        gaps: list[tuple[int, int]] = []  # before each value, and the bytes that it has
        for section in sections:
            members = places[section]
            end = common_end([place.key for place in members])
            ends = {width: end + head for width, head in SAMPLE_HEADS.items()}
            for number, (before, key, width) in enumerate(members):
                own = before + key[: len(key) - len(end)]
                self._frame += (own, ends[width], b"", b"")
                gaps.append((len(own) + len(ends[width]), width))
                at += sum(gaps[-1])
                if not number:
                    self._sections.append((len(members), at))
                at += TIME_BYTES
        self.size = at
        self._layout = _layout(gaps, "x")
        self._each: Struct | None = None
        """The same for where every time is read; until it is needed, there is none."""
        self.room = sum(map(len, self._frame[::_PARTS])) + _POINT_ROOM * len(places)

    def read(self, body: bytes, pos: int) -> Samples | None:
        """What stands there of these series, if nothing else does."""
        if len(body) - pos < self.size:
            return None
        if self._each is None:
            values: tuple[bytes, ...] = self._layout.unpack_from(body, pos)
            times = [body[pos + at : pos + at + TIME_BYTES] for _, at in self._sections]
            counts = [count for count, _ in self._sections]
            every = list(chain.from_iterable(map(repeat, times, counts)))
            if self._stands(body, pos, values, every):
                return Samples(values, times, shared=True)
        each = self._each or self._layout_of_each()
        parts = each.unpack_from(body, pos)
        values, every_own = parts[::2], parts[1::2]
        if self._stands(body, pos, values, every_own):
            self._each = each
            return Samples(values, every_own, shared=False)
        return None

    def _stands(
        self, body: bytes, pos: int, values: Sequence[bytes], times: Sequence[bytes]
    ) -> bool:
        frame = self._frame  # always the same: to copy it would touch every piece once more
        frame[_VALUES] = values
        frame[_TIMES] = times
        return body.startswith(b"".join(frame), pos)

    def _layout_of_each(self) -> Struct:
        heads = self._frame[::_PARTS], self._frame[1::_PARTS]
        widths = map(len, self._frame[_VALUES])
        gaps = [
            (len(own) + len(end), width) for own, end, width in zip(*heads, widths, strict=True)
        ]
        return _layout(gaps, "s")

    def __repr__(self) -> str:
        return f"<Outline of {self.size} bytes in {len(self._sections)} sections>"


def _layout(gaps: Sequence[tuple[int, int]], times: str) -> Struct:
    """Reads values of these widths behind these gaps, each before a time: "s" reads it, too, "x"
    does not."""
    return Struct("<" + "".join([f"{gap}x{width}s{TIME_BYTES}{times}" for gap, width in gaps]))
