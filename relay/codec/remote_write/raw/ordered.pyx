# cython: boundscheck=False, wraparound=False, cdivision=True
"""A raw batch in the order in which it leaves.

* Nearly all batches leave as they are: this is one pass over the times then, and copies nothing.
* A series' points leave in the order of their times. Where a time lies before an earlier point's,
  the series are looked at, by hash; where a series has a late point, all are sorted by time,
  stably. Two series of one hash cost a needless sort.
* Metadata is taken out. Prefixes of several tables, as there are for a moment when a table was
  replaced, become those of the last one.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy

from relay.codec.otlp.point_buffer cimport Point
from relay.codec.prefetch cimport LINE, prefetch
from relay.codec.remote_write.raw.buffer cimport RawEntry, RawPointBuffer
from relay.codec.remote_write.raw.label_table cimport (
    PREFIX_HEAD, LabelTable, RawGroup, count_labels,
)


cdef enum:
    TOGETHER = 16  # entries whose memory is fetched at once


cdef struct Latest:
    uint64_t series  # hash of the prefix, 0 for a free slot
    uint64_t time_ns


cdef struct Placed:
    uint64_t time_ns
    Py_ssize_t at


cdef class OrderedBatch:
    """The entries of a batch with closed runs; ``metadata`` are its encoded metadata fields."""

    def __cinit__(self, RawPointBuffer point_buffer not None):
        self.point_buffer = point_buffer  # it owns the heads
        self.metadata = []
        self.kept = []
        self.points = point_buffer.points
        self.count = point_buffer.count
        self.table = table_of(point_buffer, point_buffer.runs_count - 1)
        cdef Py_ssize_t end = 0, run
        cdef bint is_mixed = False
        for run in range(point_buffer.runs_count):
            end = point_buffer.runs[run].end
            if table_of(point_buffer, run) is not self.table:
                is_mixed = True
        assert end == self.count, "runs must tile the buffer"
        self.has_riders = point_buffer.riders_bytes > 0
        if is_mixed or self.has_riders:
            self.own = copy_of(self.points, self.count)
            if is_mixed:
                use_one_table(self, point_buffer)
            take_metadata(self)
            self.points = self.own
        if is_out_of_order(self.points, self.count) and has_late(self.points, self.count):
            sort_by_time(self)

    def __dealloc__(self):
        PyMem_Free(self.own)


cdef LabelTable table_of(RawPointBuffer point_buffer, Py_ssize_t run):
    if run < 0:
        return LabelTable()
    return (<RawGroup?><object>point_buffer.runs[run].group).table


cdef Point *copy_of(Point *points, Py_ssize_t count) except NULL:
    cdef Point *own = <Point *>PyMem_Malloc(<size_t>max(count, 1) * sizeof(Point))
    if own == NULL:
        raise MemoryError
    memcpy(own, points, <size_t>count * sizeof(Point))
    return own


cdef int use_one_table(OrderedBatch batch, RawPointBuffer point_buffer) except -1:
    """Replace prefixes of other tables than the batch's."""
    cdef Py_ssize_t at = 0, run
    cdef LabelTable table
    cdef RawEntry entry
    cdef object head
    for run in range(point_buffer.runs_count):
        table = table_of(point_buffer, run)
        while at < point_buffer.runs[run].end:
            head = <object>batch.own[at].head
            if table is not batch.table and not (
                isinstance(head, bytes) and not batch.own[at].time_ns
            ):
                if isinstance(head, RawEntry):
                    entry = head
                    head = RawEntry(
                        moved(entry.prefix, table, batch.table), entry.fields, entry.time_ns,
                        entry.is_point, entry.exemplars,
                    )
                else:
                    head = moved(head, table, batch.table)
                batch.kept.append(head)
                batch.own[at].head = <void *>head
            at += 1
    return 0


cdef bytes moved(bytes prefix, LabelTable table, LabelTable other):
    """Return the prefix in the other table."""
    return other.place(b"".join(table.fields_of(prefix)), table.declaration_of(prefix))


cdef int take_metadata(OrderedBatch batch) except -1:
    """Move metadata riders from the entries to ``metadata``."""
    cdef Py_ssize_t at, kept = 0
    for at in range(batch.count):
        if not batch.own[at].time_ns and isinstance(<object>batch.own[at].head, bytes):
            batch.metadata.append(<object>batch.own[at].head)
        else:
            batch.own[kept] = batch.own[at]
            kept += 1
    batch.count = kept
    return 0


cdef inline uint64_t time_of(Point *point) noexcept:
    return point.time_ns if point.time_ns else (<RawEntry>point.head).time_ns


cdef bint is_out_of_order(Point *points, Py_ssize_t count) noexcept:
    """Return whether the times go back anywhere."""
    cdef Py_ssize_t at
    cdef uint64_t latest = 0, time_ns
    for at in range(count):
        time_ns = time_of(&points[at])
        if time_ns < latest:
            return True
        latest = time_ns
    return False


cdef inline uint64_t series_hash(bytes prefix) noexcept:
    """Hash the labels of a prefix; never 0."""
    cdef const char *data = PyBytes_AS_STRING(prefix)
    cdef Py_ssize_t left = PREFIX_HEAD + 4 * count_labels(prefix)
    cdef uint64_t mixed = <uint64_t>left * <uint64_t>0x9E3779B97F4A7C15, word
    cdef uint32_t half
    while left >= 8:
        memcpy(&word, data, 8)
        mixed = (mixed ^ word) * <uint64_t>0x9E3779B97F4A7C15
        mixed ^= mixed >> 32
        data += 8
        left -= 8
    if left:  # one number of four bytes
        memcpy(&half, data, 4)
        mixed = (mixed ^ half) * <uint64_t>0x9E3779B97F4A7C15
        mixed ^= mixed >> 32
    return mixed | 1


cdef inline bytes prefix_of(Point *point):
    return <bytes>point.head if point.time_ns else (<RawEntry>point.head).prefix


cdef bint has_late(Point *points, Py_ssize_t count) except -1:
    """Return whether an entry is earlier than the one of its series before it."""
    cdef size_t size = 16, slot
    cdef Py_ssize_t start = 0, end, at
    cdef uint64_t series[TOGETHER]
    cdef uint64_t time_ns
    cdef Latest *table
    while size < <size_t>count * 2:
        size *= 2
    table = <Latest *>PyMem_Calloc(size, sizeof(Latest))
    if table == NULL:
        raise MemoryError
    try:
        while start < count:
            end = min(start + TOGETHER, count)
            for at in range(end, min(end + TOGETHER, count)):
                prefetch(points[at].head)
                prefetch(<char *>points[at].head + LINE)
            for at in range(start, end):
                series[at - start] = series_hash(prefix_of(&points[at]))
                prefetch(&table[<size_t>(series[at - start] >> 20) & (size - 1)])
            for at in range(start, end):
                time_ns = time_of(&points[at])
                slot = <size_t>(series[at - start] >> 20) & (size - 1)
                while table[slot].series and table[slot].series != series[at - start]:
                    slot = (slot + 1) & (size - 1)
                if time_ns < table[slot].time_ns:
                    return True
                table[slot].series = series[at - start]
                table[slot].time_ns = time_ns
            start = end
        return False
    finally:
        PyMem_Free(table)


cdef int by_time(const void *one, const void *other) noexcept nogil:
    cdef Placed *a = <Placed *>one
    cdef Placed *b = <Placed *>other
    if a.time_ns != b.time_ns:
        return -1 if a.time_ns < b.time_ns else 1
    return -1 if a.at < b.at else 1


cdef int sort_by_time(OrderedBatch batch) except -1:
    """Sort the entries by time, and those of one time by arrival."""
    cdef Py_ssize_t at
    cdef Placed *order = <Placed *>PyMem_Malloc(<size_t>batch.count * sizeof(Placed))
    cdef Point *sorted_points = NULL
    if order == NULL:
        raise MemoryError
    try:
        sorted_points = copy_of(batch.points, batch.count)
        for at in range(batch.count):
            order[at].time_ns = time_of(&batch.points[at])
            order[at].at = at
        qsort(order, <size_t>batch.count, sizeof(Placed), by_time)
        for at in range(batch.count):
            sorted_points[at] = batch.points[order[at].at]
    finally:
        PyMem_Free(order)
    PyMem_Free(batch.own)
    batch.own = batch.points = sorted_points
    return 0
