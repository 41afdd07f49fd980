# cython: boundscheck=False, wraparound=False, cdivision=True
"""Numbers for label fields, so that a series' prefix costs four bytes per label.

* A *prefix* is an array of native 32-bit numbers, one per label field in the series' order, and
  perhaps one of a declaration behind them. Both versions of remote write use the same.
* A table only grows. A batch reaches the table of its points through their group, so a pipeline
  replaces the table, with the groups and prefixes, when most of it is dead
  (:meth:`LabelTable.is_due`); points of both may stand in one batch.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from relay.runtime.errors import DecodeError

cdef enum:
    FIRST_FIELDS = 64
    LABEL_TAG = 0x0A  # TimeSeries.labels
    FIELD_OVERHEAD_BYTES = 200  # of bytes object, dictionary entry, number and state
    SLACK = 65_536  # series that may come and go before a small table is replaced


cdef class LabelTable:
    """Number label fields and declarations; ``memory_bytes`` is approximate.

    ``grown`` counts the calls of :meth:`place` that added a field.
    """

    def __cinit__(self):
        self.numbers = {}
        self.fields = []
        self.declarations = []
        self.declaration_numbers = {}
        self.groups = {}

    def __dealloc__(self):
        PyMem_Free(self.texts)

    def __len__(self):
        return len(self.fields)

    cdef int add(self, bytes field) except -1:
        """Number a new label field."""
        cdef Py_ssize_t number = len(self.fields), capacity
        cdef void *texts
        if number >= DECLARATION:
            raise OverflowError("too many label fields")
        if number == self.capacity:
            capacity = self.capacity * 2 if self.capacity else FIRST_FIELDS
            texts = PyMem_Realloc(self.texts, <size_t>capacity * sizeof(Field))
            if texts == NULL:
                raise MemoryError
            self.texts = <Field *>texts
            self.capacity = capacity
        self.fields.append(field)
        self.numbers[field] = number
        self.texts[number].data = PyBytes_AS_STRING(field)
        self.texts[number].size = PyBytes_GET_SIZE(field)
        self.memory_bytes += FIELD_OVERHEAD_BYTES + PyBytes_GET_SIZE(field)
        return 0

    cpdef bytes place(self, bytes key, object declaration=None):
        """Return the prefix of a series.

        ``key``: its label fields as 1.0 writes them, external labels included. ``declaration``:
        (type, help, unit), hashable, for 2.0 alone; the texts as UTF-8. Raises DecodeError where
        ``key`` is anything else.
        """
        assert key is not None
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(key)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(key), pos = 0, stop, known = len(self.fields)
        cdef list placed = []
        cdef object number
        cdef bytes field
        while pos < end:
            stop = label_end(data, pos, end)
            if stop < 0:
                raise DecodeError("not a label field", offset=pos)
            field = key[pos:stop]
            number = self.numbers.get(field)
            if number is None:
                self.add(field)
                number = len(self.fields) - 1
            placed.append(number)
            pos = stop
        if len(self.fields) > known:
            self.grown += 1
        if declaration is not None:
            number = self.declaration_numbers.get(declaration)
            if number is None:
                number = self.declaration_numbers[declaration] = len(self.declarations)
                self.declarations.append(declaration)
            placed.append(number | DECLARATION)
        cdef Py_ssize_t count = len(placed), at
        cdef bytes prefix = PyBytes_FromStringAndSize(NULL, count * 4)
        cdef uint32_t one
        for at in range(count):
            one = placed[at]
            memcpy(PyBytes_AS_STRING(prefix) + 4 * at, &one, 4)
        return prefix

    def fields_of(self, bytes prefix not None):
        """Return the label fields of a series."""
        return tuple([
            self.fields[number] for number in memoryview(prefix).cast("I") if number < DECLARATION
        ])

    def declaration_of(self, bytes prefix not None):
        """Return the declaration of a series, None without one."""
        for number in memoryview(prefix).cast("I"):
            if number >= DECLARATION:
                return self.declarations[number - DECLARATION]
        return None

    def group(self, long long shard_key):
        """Return the group of the series with this shard key, always the same object."""
        found = self.groups.get(shard_key)
        if found is None:
            found = self.groups[shard_key] = new_group(self, shard_key)
        return found

    def is_due(self, Py_ssize_t live):
        """Return whether to replace the table: most of it is dead, if ``live`` series use it."""
        return self.grown > 2 * live + SLACK

    def close(self):
        """Let go of the groups, which refer to the table; it lives as long as one of them."""
        self.groups.clear()

    def __repr__(self):
        return f"<LabelTable {len(self.fields)} fields, {self.memory_bytes} bytes>"


cdef Py_ssize_t label_end(const unsigned char *data, Py_ssize_t pos, Py_ssize_t end) noexcept:
    """Return where the label field at ``pos`` ends; -1 where there is none."""
    cdef unsigned long long size = 0
    cdef int shift = 0
    if data[pos] != LABEL_TAG:
        return -1
    pos += 1
    while pos < end and shift < 63:
        size |= <unsigned long long>(data[pos] & 0x7F) << shift
        pos += 1
        if data[pos - 1] < 128:
            return pos + <Py_ssize_t>size if size <= <unsigned long long>(end - pos) else -1
        shift += 7
    return -1


cdef class RawGroup:
    """The group of points that are series as they came; one for each shard key of a table.

    It ties the points of a run to the table of their prefixes.
    """

    def stale_prefix(self, bytes prefix):
        """Return the prefix itself: the stale marker is the value's matter."""
        return prefix

    def __repr__(self):
        return f"<RawGroup {self.shard_key} of {self.table!r}>"


cdef RawGroup new_group(LabelTable table, long long shard_key):
    cdef RawGroup group = RawGroup.__new__(RawGroup)
    group.table = table
    group.shard_key = shard_key
    return group
