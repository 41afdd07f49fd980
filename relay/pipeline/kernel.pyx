# cython: boundscheck=False, wraparound=False, cdivision=True
"""kernel.py on raw memory: the same function, the same answers, the same errors.

* Nothing is sliced: labels are compared where they stand, times are decoded where they stand, and
  a point is three words in its batch's arena.
* What is unusual goes the way that it goes in kernel.py, through the same Python.
* A series that is not the guess, with one common sample, is looked up without that.
* Nothing is fetched ahead of its use: prefetching the bytes of the next series was tried and did not
  help.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from relay.pipeline.intake cimport Intake, enter, leave, seal
from relay.pipeline.series cimport Series
from relay.wire.arena cimport Arena, Point
from relay.wire.batch cimport OpenBatch

from relay.errors import DecodeError
from relay.pipeline.careful import append_sample, count_careful, count_expansion, point_bytes
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
    FIRST_SLOTS = 1024
    PROBES = 4

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


cdef struct Slot:
    uint64_t mark  # of the key
    void *series


cdef inline uint64_t mixed(uint64_t value) noexcept:
    value = (value ^ (value >> 32)) * <uint64_t>0x9E3779B97F4A7C15
    return value ^ (value >> 29)


cdef uint64_t mark_of(const unsigned char *key, Py_ssize_t size) noexcept:
    """A number that tells keys apart, mostly; who takes it for more compares them."""
    cdef uint64_t even = <uint64_t>size, odd = 0, word
    while size >= 16:
        memcpy(&word, key, 8)
        even = (even ^ word) * <uint64_t>0xFF51AFD7ED558CCD
        even ^= even >> 32
        memcpy(&word, key + 8, 8)
        odd = (odd ^ word) * <uint64_t>0xC4CEB9FE1A85EC53
        odd ^= odd >> 32
        key += 16
        size -= 16
    if size >= 8:
        memcpy(&word, key, 8)
        even = mixed(even ^ word)
        key += 8
        size -= 8
    word = 0
    memcpy(&word, key, <size_t>size)
    return mixed(even ^ mixed(odd ^ word))


cdef class Guesses:
    """Series by a mark of their key, for those that do not follow the one that they followed last.

    Only a shortcut: a series that is not found, or pushed out by others, is looked up. It holds
    references to series, forgotten ones among them until the room is needed: never more than there
    are others.
    """

    cdef Slot *slots
    cdef size_t mask
    cdef size_t count

    def __cinit__(self):
        self.resize(FIRST_SLOTS)

    def __dealloc__(self):
        cdef size_t at
        for at in range(self.mask + 1):
            Py_XDECREF(<PyObject *>self.slots[at].series)
        PyMem_Free(self.slots)

    cdef int resize(self, size_t size) except -1:
        """Begin anew with so many slots, a power of two."""
        cdef Slot *slots = <Slot *>PyMem_Malloc(size * sizeof(Slot))
        if slots == NULL:
            raise MemoryError
        memset(slots, 0, size * sizeof(Slot))
        self.slots = slots
        self.mask = size - 1
        self.count = 0
        return 0

    cdef Series find(self, uint64_t mark, const unsigned char *key, Py_ssize_t size):
        """The series with this key, or None."""
        cdef size_t at
        cdef Slot *slot
        cdef bytes known
        for at in range(PROBES):
            slot = &self.slots[(mark + at) & self.mask]
            if slot.mark == mark and slot.series != NULL:
                known = (<Series>slot.series).key
                if PyBytes_GET_SIZE(known) == size and not memcmp(
                    key, PyBytes_AS_STRING(known), <size_t>size
                ):
                    return <Series>slot.series
        return None

    cdef int keep(self, uint64_t mark, Series series) except -1:
        """Find this series by its mark from now on."""
        if self.count * 2 > self.mask:
            self.tidy()
        self.put(mark, series)
        return 0

    cdef void put(self, uint64_t mark, Series series):
        cdef size_t at
        cdef Slot *slot
        cdef Slot *chosen = &self.slots[mark & self.mask]
        for at in range(PROBES):
            slot = &self.slots[(mark + at) & self.mask]
            if slot.series == NULL or slot.mark == mark:
                chosen = slot
                break
        Py_INCREF(series)
        if chosen.series == NULL:
            self.count += 1
        Py_XDECREF(<PyObject *>chosen.series)
        chosen.mark = mark
        chosen.series = <void *>series

    cdef int tidy(self) except -1:
        """Drop what is forgotten; where that does not make enough room, make more."""
        cdef Slot *slots = self.slots
        cdef size_t size = self.mask + 1, live = 0, at
        for at in range(size):
            live += slots[at].series != NULL and (<Series>slots[at].series).generation >= 0
        self.resize(size * 2 if live * 4 > size else size)
        for at in range(size):
            if slots[at].series != NULL:
                if (<Series>slots[at].series).generation >= 0:
                    self.put(slots[at].mark, <Series>slots[at].series)
                Py_DECREF(<Series>slots[at].series)
        PyMem_Free(slots)
        return 0


cdef bytes stamp_of(uint64_t time_ns):
    """The time as :func:`relay.wire.otlp.encode_time` has it."""
    cdef bytes stamp = PyBytes_FromStringAndSize(NULL, 9)
    memcpy(PyBytes_AS_STRING(stamp), &time_ns, 8)
    PyBytes_AS_STRING(stamp)[8] = PyBytes_AS_STRING(TIME_END)[0]
    return stamp


cdef inline int append_point(
    OpenBatch batch, object group, bytes head, uint64_t time_ns, uint64_t value,
    Intake intake, long long request
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
    Intake intake, long long request
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
    Series series, uint64_t time_ns, uint64_t value, Intake intake, long long request
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


def consume(table, bytes body not None, Intake intake not None, resolution, memo):
    """See kernel.py."""
    cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(body)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(body), pos = 0
    cdef Py_ssize_t start, size, key_size
    cdef long long generation = table.generation
    cdef long long request = intake.request
    cdef Series last = table.root
    cdef Series series
    cdef Guesses guesses = memo.guesses.get(last)
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
    if guesses is None:
        guesses = memo.guesses[last] = Guesses()
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
            series = look_up(
                body, data, start, size, generation, guesses, intake, resolution, &time_ns, &value
            )
            if series is not None:
                if last.generation >= 0:
                    # A series that was just forgotten must not keep others alive.
                    last.next = series
            else:
                found, points = decode_series(body, start, pos, last, intake, resolution, memo)
                series = found
            if series is None or series.generation != generation:
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
    leave(intake)


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
    bytes body, const unsigned char *data, Py_ssize_t start, Py_ssize_t size, long long generation,
    Guesses guesses, Intake intake, object resolution, uint64_t *time_ns, uint64_t *value
):
    """The series of labels with one usual sample behind them; None, and no time, for others.

    That what stands at the end looks like a sample proves nothing yet. But what stands before it is
    then either exactly label fields, and the sample one, or no series without a fault.
    """
    cdef const unsigned char *key = data + start
    cdef Py_ssize_t key_size = size - VALUE_BYTES
    if key_size > 0:
        time_ns[0] = usual_sample(key + key_size, VALUE_BYTES, value)
    if not time_ns[0]:
        key_size = size - TIME_BYTES
        if key_size > 0:
            time_ns[0] = usual_sample(key + key_size, TIME_BYTES, value)
    if not time_ns[0]:
        return None
    cdef uint64_t mark = mark_of(key, key_size)
    cdef Series series = guesses.find(mark, key, key_size)
    if series is not None and series.generation == generation:
        return series
    if not is_labels(key, key_size):
        time_ns[0] = 0
        return None
    try:
        series = resolution.resolve(body[start:start + key_size])
        if not series.fault:
            count_careful(intake)
            guesses.keep(mark, series)
            return series
    except DecodeError:
        pass  # the careful way tells what is wrong, and where
    time_ns[0] = 0
    return None
