# cython: boundscheck=False, wraparound=False, cdivision=True
"""The point buffer of a remote-write sink.

* A plain sample is the same three words as in OTLP: prefix (label_table.pyx), time and value. Runs
  have a :class:`~relay.codec.remote_write.raw.label_table.RawGroup`.
* A *finished* entry is one :class:`RawEntry`: a native histogram, or a sample with a start time or
  exemplars. It is one point.
* A *rider* is no point: an encoded metadata field of 1.0 (bytes), or an entry with exemplars alone.
  Riders leave with the batch's points, and never alone: few of them wait for the first point.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t

from relay.codec.otlp.point_buffer cimport Point, PointBuffer

from relay.codec.protobuf import iter_fields

cdef enum:
    ENTRY_BYTES = 120  # of a RawEntry and its objects, without contents
    EXEMPLAR_BYTES = 250  # the same of an exemplar
    RIDERS_BYTES_MAX = 1 << 20  # in one buffer
    LONE_RIDERS_BYTES_MAX = 1 << 16  # in one without points
    EXEMPLARS_FIELD = 3  # of TimeSeries of 1.0


cdef class RawEntry:
    """One point that is more than time and value, or exemplars alone.

    ``prefix``: of its series. ``fields``: the encoded fields of TimeSeries behind the labels; those
    of 2.0 without exemplars, which have ``exemplars``. ``time_ns``: of the point. ``is_point``: it
    is a sample or a histogram, no exemplars alone.
    """

    def __init__(
        self, bytes prefix not None, bytes fields not None, uint64_t time_ns, bint is_point=True,
        tuple exemplars not None=(),
    ):
        self.prefix = prefix
        self.fields = fields
        self.time_ns = time_ns
        self.is_point = is_point
        self.exemplars = exemplars

    def __repr__(self):
        kind = "point" if self.is_point else "exemplars"
        return f"<RawEntry {kind}, {len(self.fields)} bytes, {len(self.exemplars)} exemplars>"


cdef Py_ssize_t entry_bytes(RawEntry entry):
    return ENTRY_BYTES + PyBytes_GET_SIZE(entry.fields) + EXEMPLAR_BYTES * len(entry.exemplars)


cdef class RawPointBuffer(PointBuffer):
    """Hold the points of one batch of series as they came."""

    cdef void forget(self, Py_ssize_t points, Py_ssize_t runs) noexcept:
        """Release all entries and runs beyond the given numbers."""
        cdef Py_ssize_t at
        if self.riders_bytes:
            for at in range(points, self.count):
                if not self.points[at].time_ns:
                    self.riders_bytes -= <Py_ssize_t>self.points[at].value
        PointBuffer.forget(self, points, runs)

    cdef int put(self, object head, Py_ssize_t size, bint is_rider) except -1:
        """Append an entry that is no plain sample; ``size``: bytes that only this buffer holds."""
        if self.count == self.capacity:
            self.grow()
        cdef Point *added = &self.points[self.count]
        Py_INCREF(head)
        added.head = <void *>head
        added.time_ns = 0
        added.value = <uint64_t>size if is_rider else 0
        self.count += 1
        self.size += size
        self.finished += size
        self.riders_bytes += <Py_ssize_t>added.value
        return 0

    def add_finished(self, RawEntry point not None):
        """Append a finished point."""
        assert point.is_point
        self.put(point, entry_bytes(point), False)

    def add_rider(self, rider not None, bint has_points=True):
        """Append a rider, bytes or a RawEntry; return False if there are too many already.

        ``has_points``: the buffer has any.
        """
        cdef Py_ssize_t size
        if isinstance(rider, RawEntry):
            assert not rider.is_point
            size = entry_bytes(rider)
        else:
            size = PyBytes_GET_SIZE(<bytes?>rider) + 1
        if self.riders_bytes + size > (RIDERS_BYTES_MAX if has_points else LONE_RIDERS_BYTES_MAX):
            return False
        self.put(rider, size, True)
        return True

    def count_exemplars(self):
        """Count the exemplars that came without a point."""
        cdef Py_ssize_t at, found = 0
        cdef object head
        for at in range(self.count):
            head = <object>self.points[at].head
            if self.points[at].time_ns or not isinstance(head, RawEntry) or head.is_point:
                continue
            fields = iter_fields(head.fields, 0, len(head.fields))
            found += len(head.exemplars)
            found += sum([number == EXEMPLARS_FIELD for number, _, _, _, _ in fields])
        return found

    def entries(self):
        """Return all entries in order of arrival; all runs must be closed.

        Each is (group, prefix, time in ns, eight bytes of the value) for a plain sample, else
        (group, RawEntry or bytes).
        """
        cdef Py_ssize_t at = 0, run
        cdef Point *point
        cdef object group
        cdef list found = []
        for run in range(self.runs_count):
            group = <object>self.runs[run].group
            while at < self.runs[run].end:
                point = &self.points[at]
                if point.time_ns:
                    found.append((
                        group, <bytes>point.head, point.time_ns,
                        PyBytes_FromStringAndSize(<char *>&point.value, 8),
                    ))
                else:
                    found.append((group, <object>point.head))
                at += 1
        assert at == self.count, "runs must tile the buffer"
        return found

    def encode(self):
        """Raise TypeError: a sink's encoder knows the version."""
        raise TypeError("a raw buffer is encoded by the encoder of its version")

    def __repr__(self):
        return f"<RawPointBuffer {self.count} entries in {self.runs_count} runs>"
