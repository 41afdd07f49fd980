"""Cut an encoded remote-write request in two, for endpoints that find it too large.

Rules:

* For requests of our own (:mod:`relay.codec.remote_write.encode`): whatever stands in one half does
  not stand in the other, and everything keeps its order.
* The cut is where the halves' encoded bytes are nearest to each other. What is said of one series
  is cut only where nothing else is in the request.
* 1.0 is cut as bytes. In 2.0 references are written anew, because each half needs the symbols that
  it names, and those alone: with all of them no half would ever be small enough (cut.pyx).
"""

from __future__ import annotations

from bisect import bisect_left

from relay.codec.remote_write.cut import Request2, scan_v1
from relay.codec.remote_write.encode import Encoded, encode_series, halves_of
from relay.codec.remote_write.raw_series import read_v1, read_v2
from relay.codec.remote_write.v1 import WriteProtocol


def split_in_two(data: bytes, protocol: WriteProtocol) -> tuple[Encoded, Encoded] | None:
    """Cut a request; None where it holds one point, exemplar or piece of metadata alone.

    Raises DecodeError for bytes that are no such request.
    """
    return _split_v1(data) if protocol == "remote_write_v1" else _split_v2(data)


def _split_v1(data: bytes) -> tuple[Encoded, Encoded] | None:
    ends, points = scan_v1(data)
    if not ends:
        return None
    if len(ends) == 1:
        return _split_series(data)
    cut = _nearest_to_half(ends)
    if points[-1] > 1 and points[cut - 1] in (0, points[-1]):
        # Metadata and exemplars weigh most; what has no point cannot be sent in a request alone.
        cut = bisect_left(points, min(max(1, points[cut - 1]), points[-1] - 1)) + 1
        # All points may be in the last entry, which is cut once it stands alone.
        cut = min(cut, len(ends) - 1)
    at = ends[cut - 1]
    return Encoded(data[:at], points[cut - 1]), Encoded(data[at:], points[-1] - points[cut - 1])


def _split_series(data: bytes) -> tuple[Encoded, Encoded] | None:
    """Cut a request of 1.0 with one series or piece of metadata."""
    series, _ = read_v1(data)
    halves = halves_of(series[0], "remote_write_v1") if series else None
    if halves is None:
        return None
    first, second = (encode_series(half, "remote_write_v1") for half in halves)
    return first, second


def _split_v2(data: bytes) -> tuple[Encoded, Encoded] | None:
    request = Request2(data)
    series = len(request.ends)
    if not series:
        return None
    if series == 1:
        halves = halves_of(read_v2(data)[0], "remote_write_v2")
        if halves is None:
            return None
        return encode_series(halves[0], "remote_write_v2"), encode_series(
            halves[1], "remote_write_v2"
        )
    cut = _nearest_to_half(request.ends)
    return Encoded(*request.part(range(cut))), Encoded(*request.part(range(cut, series)))


def _nearest_to_half(ends: list[int]) -> int:
    """Return the number of entries, of at least two, in the first half; ``ends``: their ends."""
    above = bisect_left(ends, ends[-1] / 2, hi=len(ends) - 1)  # ends[above] is at half or behind
    if above and ends[-1] - ends[above - 1] < ends[above]:
        above -= 1
    return min(above + 1, len(ends) - 1)
