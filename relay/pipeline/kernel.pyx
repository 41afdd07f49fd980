# cython: boundscheck=False, wraparound=False, cdivision=True
"""kernel.py on raw memory: the same function, the same answers, the same errors.

* Nothing is sliced: labels are compared where they stand, times are decoded where they stand, and
  a point is three words in its batch's arena.
* What is unusual goes the way that it goes in kernel.py, through the same Python.
* A series that is not the guess, with one common sample, is looked up without that.
* Nothing is fetched ahead of its use: prefetching the next series' bytes was tried, and cost seven
  times what a sample costs without.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

from relay.pipeline.series cimport Series
from relay.wire.arena cimport Arena, Point
from relay.wire.batch cimport OpenBatch

from relay.errors import DecodeError
from relay.pipeline.careful import append_sample, count_careful, count_expansion, point_bytes
from relay.pipeline.intake import enter, leave, seal
from relay.pipeline.unusual import decode_series, other_field
from relay.wire.otlp import VALUE_TAG, stale_prefix
from relay.wire.otlp_points import STALE
from relay.wire.protobuf import read_varint


cdef enum:
    SERIES_TAG = 0x0A
    LABEL_TAG = 0x0A  # TimeSeries.labels
    VALUE_BYTES = 18  # TimeSeries.samples: tag, 16, value's tag and 8 bytes, time's tag and 6
    TIME_BYTES = 9  # the same without the zero value
    TAIL_BYTES = 17  # of a point in OTLP: time, tag, value

cdef uint64_t STALE_BITS
memcpy(&STALE_BITS, PyBytes_AS_STRING(STALE), 8)
cdef bytes TIME_END = VALUE_TAG


cdef uint64_t usual_time(const unsigned char *at) noexcept:
    """The time, in ns, of six bytes of varint that are ms, as short as they can be; 0 for others.

    Those are the times from 1971 to 2109.
    """
    cdef uint64_t time_ms = 0
    cdef int n
    for n in range(5):
        if at[n] < 128:
            return 0
        time_ms |= <uint64_t>(at[n] & 0x7F) << (7 * n)
    if at[5] > 127 or at[5] == 0:
        return 0
    return (time_ms | <uint64_t>at[5] << 35) * 1_000_000


cdef inline uint64_t usual_sample(
    const unsigned char *at, Py_ssize_t size, uint64_t *value
) noexcept:
    """The time, in ns, of what is exactly one sample of a usual shape; 0 for anything else."""
    if size == VALUE_BYTES:
        if at[0] == 0x12 and at[1] == 0x10 and at[2] == 0x09 and at[11] == 0x10:
            memcpy(value, at + 3, 8)
            return usual_time(at + 12)
    elif size == TIME_BYTES and at[0] == 0x12 and at[1] == 0x07 and at[2] == 0x10:
        value[0] = 0
        return usual_time(at + 3)
    return 0


cdef bytes stamp_of(uint64_t time_ns):
    """The time as :func:`relay.wire.otlp.encode_time` has it."""
    cdef bytes stamp = PyBytes_FromStringAndSize(NULL, 9)
    memcpy(PyBytes_AS_STRING(stamp), &time_ns, 8)
    PyBytes_AS_STRING(stamp)[8] = PyBytes_AS_STRING(TIME_END)[0]
    return stamp


cdef inline int append_point(
    OpenBatch batch, object group, bytes head, uint64_t time_ns, uint64_t value,
    object intake, long long request
) except -1:
    """Append a point to the batch, which is sealed where it is full."""
    if batch.group is not group:
        if batch.request == request and batch.group is not None:
            batch.arena.end_run(batch.group)
            if not batch.count:
                batch.oldest = request
                batch.opened_at = intake.now
            batch.group = group
        else:
            enter(batch, group, intake)
    cdef Arena arena = batch.arena
    if arena.count == arena.capacity:
        arena.grow()
    cdef Point *point = &arena.points[arena.count]
    Py_INCREF(head)
    point.head = <void *>head
    point.time_ns = time_ns
    point.value = value
    arena.count += 1
    arena.size += PyBytes_GET_SIZE(head) + TAIL_BYTES
    batch.count += 1
    if batch.count == batch.limit:
        seal(batch, intake)
    return 0


cdef int append_route(
    tuple batches, object group, bytes prefix, uint64_t time_ns, uint64_t value,
    object intake, long long request
) except -1:
    """Append a point to every batch of a route."""
    cdef Py_ssize_t at
    if value == STALE_BITS:
        prefix = stale_prefix(prefix)
    for at in range(PyTuple_GET_SIZE(batches)):
        append_point(
            <OpenBatch>PyTuple_GET_ITEM(batches, at), group, prefix, time_ns, value, intake, request
        )
    return 0


cdef int append_points(
    Series series, uint64_t time_ns, uint64_t value, object intake, long long request
) except -1:
    """Append a point to every batch that a series goes to."""
    cdef tuple route
    if series.batches is not None:
        append_route(
            series.batches, series.group, series.prefix, time_ns, value, intake, request
        )
        for route in series.others:
            append_route(route[0], route[1], route[2], time_ns, value, intake, request)
    return 0


def consume(table, bytes body not None, intake, resolution, memo):
    """See kernel.py."""
    cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(body)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(body), pos = 0
    cdef Py_ssize_t start, size, key_size
    cdef long long generation = table.generation
    cdef long long request = intake.request
    cdef Series last = table.root
    cdef Series series
    cdef uint64_t time_ns, value = 0
    cdef list tallies = intake.tallies
    cdef list deferred = intake.deferred
    cdef list points
    cdef object plan = None
    cdef object found
    cdef bint handled = False
    cdef Py_ssize_t samples = 0
    cdef bytes last_stamp = None  # of samples that are deferred; those of a target have one time
    cdef uint64_t last_time_ns = 0
    while pos < end:
        if data[pos] == SERIES_TAG:
            if pos + 1 >= end:
                raise DecodeError("truncated length", offset=pos + 1)
            size = data[pos + 1]
            start = pos + 2
            if size > 127:
                if start >= end:
                    raise DecodeError("truncated length", offset=pos + 1)
                if data[start] < 128:
                    size += (<Py_ssize_t>data[start] << 7) - 128
                    start += 1
                else:
                    found, start = read_varint(body, pos + 1, end)
                    if found > end - start:
                        raise DecodeError(
                            f"length {found} runs past the end of its message", offset=start
                        )
                    size = found
            if size > end - start:
                raise DecodeError(f"length {size} runs past the end of its message", offset=start)
            pos = start + size
        else:
            start, pos = other_field(body, pos, end, intake)
            if start < 0:
                continue
            size = pos - start

        series = last.next
        time_ns = 0
        if series is not None:
            key_size = PyBytes_GET_SIZE(series.key)
            if key_size <= size and not memcmp(
                data + start, PyBytes_AS_STRING(series.key), <size_t>key_size
            ):
                if series.generation != generation:
                    last.next = series = resolution.resolve(series.key)
                    generation = table.generation
                time_ns = usual_sample(data + start + key_size, size - key_size, &value)
        if not time_ns:
            # Another series than the guess, or a sample of another shape.
            series = look_up(body, data, start, size, intake, resolution, &time_ns, &value)
            if series is not None:
                if last.generation >= 0:
                    last.next = series
            else:
                found, points = decode_series(body, start, pos, last, intake, resolution, memo)
                series = found
            generation = table.generation
            if series is None:
                continue
        last = series
        if series.plan is not plan:
            if plan is not None:
                tallies.append((plan, samples))
            plan = series.plan
            handled = plan.handled
            samples = 0
        if not time_ns:
            if len(points) > 1:
                count_expansion(len(points) * point_bytes(series, series.plan), intake)
            samples += len(points)
            for stamp, number, extra in points:
                append_sample(series, stamp, number, extra, intake)
            continue
        samples += 1
        if handled:
            if time_ns != last_time_ns:
                last_stamp = stamp_of(time_ns)
                last_time_ns = time_ns
            deferred.append((
                series.handlers,
                last_stamp,
                PyBytes_FromStringAndSize(<char *>&value, 8),
                None,
            ))
        append_points(series, time_ns, value, intake, request)
    if plan is not None:
        tallies.append((plan, samples))
    for touch in intake.touches:
        leave(touch.batch)


cdef bint is_labels(const unsigned char *at, Py_ssize_t size) noexcept:
    """Whether these are fields of the labels' number alone, their lengths of one byte or two."""
    cdef Py_ssize_t pos = 0, length
    while pos + 2 < size:
        length = at[pos + 1]
        if at[pos] != LABEL_TAG:
            return False
        pos += 2
        if length > 127:
            if at[pos] > 127:
                return False
            length += (<Py_ssize_t>at[pos] << 7) - 128
            pos += 1
        pos += length
    return pos == size


cdef Series look_up(
    bytes body, const unsigned char *data, Py_ssize_t start, Py_ssize_t size,
    object intake, object resolution, uint64_t *time_ns, uint64_t *value
):
    """The series of labels with one usual sample behind them; None, and no time, for others.

    That what stands at the end looks like a sample proves nothing yet. But what stands before it is
    then either exactly label fields, and the sample one, or no series without a fault.
    """
    cdef Py_ssize_t tail = size - VALUE_BYTES
    if tail > 0:
        time_ns[0] = usual_sample(data + start + tail, VALUE_BYTES, value)
    if not time_ns[0]:
        tail = size - TIME_BYTES
        if tail > 0:
            time_ns[0] = usual_sample(data + start + tail, TIME_BYTES, value)
    if not time_ns[0] or not is_labels(data + start, tail):
        time_ns[0] = 0
        return None
    cdef Series series
    try:
        series = resolution.resolve(body[start:start + tail])
        if not series.fault:
            count_careful(intake)
            return series
    except DecodeError:
        pass  # the careful way tells what is wrong, and where
    time_ns[0] = 0
    return None
