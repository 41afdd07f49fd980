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
from libc.string cimport memcpy, memset

from relay.runtime.errors import DecodeError

cdef enum:
    FIRST_FIELDS = 64
    FIELD_BYTES_MAX = 1 << 30
    CHUNK_BYTES = 1 << 16
    CHUNK_FIELD_BYTES_MAX = 1 << 10  # longer fields have memory of their own
    LABEL_TAG = 0x0A  # TimeSeries.labels
    PREFIX_HEAD = 8  # bytes of a Prefix before its numbers
    FIELD_OVERHEAD_BYTES = 190  # of bytes object, dictionary entry, number and state
    SLACK = 65_536  # series that may come and go before a small table is replaced


cdef class LabelTable:
    """Number label fields and declarations; ``memory_bytes`` is approximate.

    ``grown`` counts the calls of :meth:`place` that added a field.
    """

    def __cinit__(self):
        self.numbers = {}
        self.fields = []
        self.kind_numbers = {}
        self.chunks = []
        self.declarations = []
        self.declaration_numbers = {}
        self.groups = {}
        # The encoder looks at field 0 of series without labels, too.
        self.capacity = grown_to(0)
        self.texts = <Field *>grow(NULL, self.capacity, sizeof(Field))
        memset(self.texts, 0, <size_t>self.capacity * sizeof(Field))

    def __dealloc__(self):
        PyMem_Free(self.texts)
        PyMem_Free(self.kinds)

    def __len__(self):
        return len(self.fields)

    cdef uint32_t next_mark(self) noexcept:
        """Return the mark of a new body, to which no field was written."""
        cdef Py_ssize_t number
        self.mark += 1
        if not self.mark:
            for number in range(self.capacity):
                self.texts[number].mark = 0
            for number in range(self.kinds_capacity):
                self.kinds[number].mark = 0
            self.mark = 1
        return self.mark

    cdef unsigned char *store(self, bytes field) except NULL:
        """Copy a field to memory that neighbours share: those of a series are read together."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(field)
        cdef unsigned char *data
        if size > CHUNK_FIELD_BYTES_MAX:
            self.chunks.append(field)
            return <unsigned char *>PyBytes_AS_STRING(field)
        if size > self.chunk_left:
            chunk = PyBytes_FromStringAndSize(NULL, CHUNK_BYTES)
            self.chunks.append(chunk)
            self.chunk = <unsigned char *>PyBytes_AS_STRING(chunk)
            self.chunk_left = CHUNK_BYTES
        data = self.chunk
        memcpy(data, PyBytes_AS_STRING(field), <size_t>size)
        self.chunk += size
        self.chunk_left -= size
        return data

    cdef uint32_t kind_of(self, bytes field) except? 0:
        """Return the number of the bytes before the field's value."""
        cdef object head = field[:value_at(<const unsigned char *>PyBytes_AS_STRING(field),
                                           PyBytes_GET_SIZE(field))]
        cdef object number = self.kind_numbers.get(head)
        if number is None:
            number = self.kind_numbers[head] = len(self.kind_numbers)
            if number == self.kinds_capacity:
                self.kinds_capacity = grown_to(self.kinds_capacity)
                self.kinds = <Kind *>grow(self.kinds, self.kinds_capacity, sizeof(Kind))
            self.kinds[<uint32_t>number].mark = 0
            self.memory_bytes += FIELD_OVERHEAD_BYTES + len(head)
        return number

    cdef uint32_t add(self, bytes field) except? 0:
        """Number a new label field."""
        cdef uint32_t number = <uint32_t>len(self.fields), kind
        assert number < DECLARATION
        assert PyBytes_GET_SIZE(field) < FIELD_BYTES_MAX
        if number == self.capacity:
            self.capacity = grown_to(self.capacity)
            self.texts = <Field *>grow(self.texts, self.capacity, sizeof(Field))
        kind = self.kind_of(field)
        self.texts[number].data = self.store(field)
        self.texts[number].size = <uint32_t>PyBytes_GET_SIZE(field)
        self.texts[number].mark = 0
        self.texts[number].kind = kind
        self.fields.append(field)
        self.numbers[field] = number
        self.memory_bytes += FIELD_OVERHEAD_BYTES + 2 * PyBytes_GET_SIZE(field)
        return number

    cpdef bytes place(self, bytes key, object declaration=None):
        """Return the prefix of a series.

        ``key``: its label fields as 1.0 writes them, external labels included. ``declaration``:
        (type, help, unit), for 2.0 alone. Raises DecodeError where ``key`` is anything else.
        """
        assert key is not None
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(key)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(key), pos = 0, stop, known = len(self.fields), count
        cdef list placed = []
        cdef object number
        cdef bytes field
        cdef Prefix *head
        assert end < FIELD_BYTES_MAX
        while pos < end:
            stop = label_end(data, pos, end)
            if stop < 0:
                raise DecodeError("not a label field", offset=pos)
            field = key[pos:stop]
            number = self.numbers.get(field)
            placed.append(self.add(field) if number is None else number)
            pos = stop
        if len(self.fields) > known:
            self.grown += 1
        newest = max(placed, default=0)
        if declaration is not None:
            number = self.declaration_numbers.get(declaration)
            if number is None:
                number = self.declaration_numbers[declaration] = len(self.declarations)
                self.declarations.append(declaration)
            placed.append(number | DECLARATION)
        count = len(placed)
        cdef bytes prefix = PyBytes_FromStringAndSize(NULL, PREFIX_HEAD + 4 * count)
        head = <Prefix *>PyBytes_AS_STRING(prefix)
        head.key_size = <uint32_t>end
        head.newest = newest
        for pos in range(count):
            head.numbers[pos] = placed[pos]
        return prefix

    def fields_of(self, bytes prefix not None):
        """Return the label fields of a series."""
        return tuple([
            self.fields[number]
            for number in memoryview(prefix)[PREFIX_HEAD:].cast("I")
            if number < DECLARATION
        ])

    def declaration_of(self, bytes prefix not None):
        """Return the declaration of a series, None without one."""
        for number in memoryview(prefix)[PREFIX_HEAD:].cast("I"):
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


cdef Py_ssize_t count_labels(bytes prefix) noexcept:
    """Return the number of labels of a prefix."""
    cdef Py_ssize_t count = PyBytes_GET_SIZE(prefix) // 4 - PREFIX_HEAD // 4
    cdef Prefix *head = <Prefix *>PyBytes_AS_STRING(prefix)
    if count and head.numbers[count - 1] & DECLARATION:
        return count - 1
    return count


cdef Py_ssize_t grown_to(Py_ssize_t capacity) noexcept:
    return capacity + capacity // 2 if capacity else FIRST_FIELDS


cdef void *grow(void *array, Py_ssize_t capacity, size_t size) except NULL:
    cdef void *moved = PyMem_Realloc(array, <size_t>capacity * size)
    if moved == NULL:
        raise MemoryError
    return moved


cdef Py_ssize_t value_at(const unsigned char *field, Py_ssize_t size) noexcept:
    """Return where the value of a label field begins; 0 where that is not easily said."""
    cdef Py_ssize_t at
    if size < 6 or size > 127 or field[2] != LABEL_TAG:
        return 0
    at = 4 + field[3]  # the tag of the value, if the name's length has one byte
    return at + 2 if field[3] < 128 and at + 2 <= size else 0


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
