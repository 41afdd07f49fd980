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
from relay.codec.remote_write.encode import Encoded, encode_requests, halves_of
from relay.codec.remote_write.raw_series import RawSeries, read_v1, read_v2
from relay.codec.remote_write.v1 import WriteProtocol

_UNBOUNDED = 1 << 62


def count_points(data: bytes, protocol: WriteProtocol) -> int:
    """Count the samples and histograms of a request. Raises DecodeError."""
    if protocol == "remote_write_v1":
        return (scan_v1(data)[1] or [0])[-1]
    request = Request2(data)
    return request.part(range(len(request.ends)))[1]


def split_in_two(data: bytes, protocol: WriteProtocol) -> tuple[Encoded, Encoded] | None:
    """Cut a request; None where it holds one point, exemplar or piece of metadata alone.

    Raises DecodeError for bytes that are no such request.
    """
    return _split_v1(data) if protocol == "remote_write_v1" else _split_v2(data)


def split_below(data: bytes, protocol: WriteProtocol, bytes_max: int) -> list[Encoded]:
    """Cut a request until no piece exceeds ``bytes_max`` encoded bytes or can be cut; keep order.

    Raises DecodeError.
    """
    done: list[Encoded] = []
    left = [Encoded(data, count_points(data, protocol))]
    while left:
        piece = left.pop()
        halves = split_in_two(piece.data, protocol) if len(piece.data) > bytes_max else None
        if halves is None:
            done.append(piece)
        else:
            left += reversed(halves)
    return done


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
    first, second = (_whole([half], "remote_write_v1") for half in halves)
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
        return _whole([halves[0]], "remote_write_v2"), _whole([halves[1]], "remote_write_v2")
    cut = _nearest_to_half(request.ends)
    return Encoded(*request.part(range(cut))), Encoded(*request.part(range(cut, series)))


def _nearest_to_half(ends: list[int]) -> int:
    """Return the number of entries, of at least two, in the first half; ``ends``: their ends."""
    above = bisect_left(ends, ends[-1] / 2, hi=len(ends) - 1)  # ends[above] is at half or behind
    if above and ends[-1] - ends[above - 1] < ends[above]:
        above -= 1
    return min(above + 1, len(ends) - 1)


def _whole(series: list[RawSeries], protocol: WriteProtocol) -> Encoded:
    (encoded,) = encode_requests(series, protocol=protocol, bytes_max=_UNBOUNDED)
    return encoded
