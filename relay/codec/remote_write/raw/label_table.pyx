# cython: boundscheck=False, wraparound=False, cdivision=True
"""Numbers for label fields, so that a series' prefix costs four bytes per label.

* A *prefix* is an array of native 32-bit numbers, one per label field in the series' order, and
  perhaps one of a declaration behind them. Both versions of remote write use the same.
* A table only grows. A batch reaches the table of its points through their group, so a pipeline
  replaces the table, with the groups and prefixes, when most of it is dead
  (:meth:`LabelTable.is_due`); points of both may stand in one batch.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from relay.codec.resizing cimport resized

from relay.runtime.errors import DecodeError

cdef extern from *:
    ctypedef unsigned long long uint128_t "unsigned __int128"

cdef enum:
    FIRST_FIELDS = 64
    KEY_BYTES_MAX = 1 << 30
    CHUNK_BYTES = 1 << 16
    LABEL_TAG = 0x0A  # TimeSeries.labels
    KIND_BYTES = 200  # of bytes object and dictionary entry
    SLACK = 65_536  # series that may come and go before a small table is replaced
    SMALL_BYTES = 1 << 25  # a table that takes more than this is replaced after fewer
    LARGE_SLACK = 1_024


cdef class LabelTable:
    """Number label fields and declarations.

    ``grown`` counts the calls of :meth:`place` that added fields, and added declarations.
    """

    def __cinit__(self):
        self.kind_numbers = {}
        self.chunks = []
        self.declarations = []
        self.declaration_numbers = {}
        self.groups = {}
        # Senders choose labels, and must not choose which of them collide.
        self.secret = <uint64_t>hash("relay.codec.remote_write.raw") | 1
        # The encoder looks at field 0 of series without labels, too.
        self.capacity = grown_to(0)
        self.fields = <Field *>resized(NULL, self.capacity, sizeof(Field))
        memset(self.fields, 0, <size_t>self.capacity * sizeof(Field))
        self.enlarge_index()

    def __dealloc__(self):
        PyMem_Free(self.fields)
        PyMem_Free(self.kinds)
        PyMem_Free(self.index)

    def __len__(self):
        return self.count

    @property
    def memory_bytes(self):
        """Bytes of memory that it takes, approximately, symbols of 2.0 included."""
        cdef size_t arrays = <size_t>self.capacity * sizeof(Field)
        arrays += <size_t>self.kinds_capacity * sizeof(Kind)
        arrays += (self.index_mask + 1) * sizeof(uint32_t)
        chunks = (len(self.chunks) - self.long_count) * CHUNK_BYTES
        symbols = 0 if self.symbols is None else self.symbols.memory_bytes
        return arrays + self.long_bytes + chunks + len(self.kind_numbers) * KIND_BYTES + symbols

    cdef uint32_t next_mark(self) noexcept:
        """Return the mark of a new body, to which no field was written."""
        cdef Py_ssize_t number
        self.mark += 1
        if not self.mark:
            for number in range(self.count):
                self.fields[number].mark = 0
            for number in range(len(self.kind_numbers)):
                self.kinds[number].mark = 0
            self.mark = 1
        return self.mark

    cdef Py_ssize_t find(self, const unsigned char *data, Py_ssize_t size) noexcept:
        """Return the number of a field, -1 for a new one."""
        cdef size_t at = hash_of(data, size, self.secret) & self.index_mask
        cdef Field *field
        while self.index[at]:
            field = &self.fields[self.index[at] - 1]
            if field.size == <uint32_t>size and not memcmp(field.data, data, <size_t>size):
                return <Py_ssize_t>self.index[at] - 1
            at = (at + 1) & self.index_mask
        return -1

    cdef int enlarge_index(self) except -1:
        """Double the index."""
        cdef size_t size = (self.index_mask + 1) * 2 if self.index != NULL else FIRST_FIELDS * 2, at
        cdef uint32_t *index = <uint32_t *>PyMem_Calloc(size, sizeof(uint32_t))
        cdef Py_ssize_t number
        if index == NULL:
            raise MemoryError
        for number in range(self.count):
            at = hash_of(self.fields[number].data, self.fields[number].size, self.secret)
            at &= size - 1
            while index[at]:
                at = (at + 1) & (size - 1)
            index[at] = <uint32_t>number + 1
        PyMem_Free(self.index)
        self.index = index
        self.index_mask = size - 1
        return 0

    cdef unsigned char *store(self, const unsigned char *data, Py_ssize_t size) except NULL:
        """Copy a field to memory that neighbours share: those of a series are read together."""
        cdef bytes chunk
        cdef unsigned char *stored
        if size > CHUNK_FIELD_BYTES_MAX:
            chunk = PyBytes_FromStringAndSize(<const char *>data, size)
            self.chunks.append(chunk)
            self.long_count += 1
            self.long_bytes += size
            return <unsigned char *>PyBytes_AS_STRING(chunk)
        if size > self.chunk_left:
            chunk = PyBytes_FromStringAndSize(NULL, CHUNK_BYTES + FIELD_SLACK)
            memset(PyBytes_AS_STRING(chunk), 0, CHUNK_BYTES + FIELD_SLACK)
            self.chunks.append(chunk)
            self.chunk = <unsigned char *>PyBytes_AS_STRING(chunk)
            self.chunk_left = CHUNK_BYTES
        stored = self.chunk
        memcpy(stored, data, <size_t>size)
        self.chunk += size
        self.chunk_left -= size
        return stored

    cdef uint32_t kind_of(self, const unsigned char *data, Py_ssize_t size) except? 0:
        """Return the number of the bytes before a field's value."""
        cdef object head = PyBytes_FromStringAndSize(<const char *>data, value_at(data, size))
        cdef object number = self.kind_numbers.get(head)
        cdef Py_ssize_t capacity
        if number is None:
            number = len(self.kind_numbers)
            if number == self.kinds_capacity:
                capacity = grown_to(self.kinds_capacity)
                self.kinds = <Kind *>resized(self.kinds, capacity, sizeof(Kind))
                self.kinds_capacity = capacity
            self.kinds[<uint32_t>number].mark = 0
            self.kind_numbers[head] = number
        return number

    cdef uint32_t add(self, const unsigned char *data, Py_ssize_t size) except? 0:
        """Number a new label field."""
        cdef uint32_t number = <uint32_t>self.count
        cdef Field field
        cdef size_t at
        assert number < DECLARATION
        if self.count == self.capacity:
            self.fields = <Field *>resized(self.fields, grown_to(self.capacity), sizeof(Field))
            self.capacity = grown_to(self.capacity)
        if <size_t>self.count * 4 >= self.index_mask * 3:
            self.enlarge_index()
        field.kind = self.kind_of(data, size)
        field.data = self.store(data, size)
        field.size = <uint32_t>size
        field.mark = field.slot = 0
        self.fields[number] = field
        self.count += 1
        at = hash_of(data, size, self.secret) & self.index_mask
        while self.index[at]:
            at = (at + 1) & self.index_mask
        self.index[at] = number + 1
        return number

    cdef bytes field(self, uint32_t number):
        """Return a label field."""
        return PyBytes_FromStringAndSize(
            <char *>self.fields[number].data, self.fields[number].size
        )

    cpdef bytes place(self, bytes key, object declaration=None):
        """Return the prefix of a series.

        ``key``: its label fields as 1.0 writes them, external labels included. ``declaration``:
        (type, help, unit), for 2.0 alone. Raises DecodeError where ``key`` is anything else.
        """
        assert key is not None
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(key)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(key), pos = 0, stop, count = 0, found
        cdef Py_ssize_t known = self.count
        cdef uint32_t newest = 0
        cdef bytes prefix
        cdef Prefix *head
        assert end < KEY_BYTES_MAX
        while pos < end:
            pos = label_end(data, pos, end)
            count += 1
        count += declaration is not None
        prefix = PyBytes_FromStringAndSize(NULL, PREFIX_HEAD + 4 * count)
        head = <Prefix *>PyBytes_AS_STRING(prefix)
        count = pos = 0
        while pos < end:
            stop = label_end(data, pos, end)
            found = self.find(data + pos, stop - pos)
            if found < 0:
                found = self.add(data + pos, stop - pos)
            head.numbers[count] = <uint32_t>found
            newest = max(newest, <uint32_t>found)
            count += 1
            pos = stop
        head.key_size = <uint32_t>end
        head.newest = newest
        if self.count > known:
            self.grown += 1
        if declaration is not None:
            number = self.declaration_numbers.get(declaration)
            if number is None:
                number = self.declaration_numbers[declaration] = len(self.declarations)
                self.declarations.append(declaration)
                self.grown += 1
            head.numbers[count] = number | DECLARATION
        return prefix

    def fields_of(self, bytes prefix not None):
        """Return the label fields of a series."""
        return tuple([
            self.field(number)
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
        """Return whether to replace the table: most of it is dead, if ``live`` series use it.

        Labels may be long: what few series leave behind is much, too.
        """
        if self.grown <= 2 * live + LARGE_SLACK:
            return False
        return self.grown > 2 * live + SLACK or self.memory_bytes > SMALL_BYTES

    def close(self):
        """Let go of the groups, which refer to the table; it lives as long as one of them."""
        self.groups.clear()

    def __repr__(self):
        return f"<LabelTable {self.count} fields, {self.memory_bytes} bytes>"


cdef Py_ssize_t grown_to(Py_ssize_t capacity) noexcept:
    return capacity + capacity // 2 if capacity else FIRST_FIELDS


cdef Py_ssize_t value_at(const unsigned char *field, Py_ssize_t size) noexcept:
    """Return where the value of a label field begins; 0 where that is not easily said."""
    cdef Py_ssize_t at
    if size < 6 or size > 127 or field[2] != LABEL_TAG:
        return 0
    at = 4 + field[3]  # the tag of the value, if the name's length has one byte
    return at + 2 if field[3] < 128 and at + 2 <= size else 0


cdef Py_ssize_t label_end(const unsigned char *data, Py_ssize_t start, Py_ssize_t end) except -1:
    """Return where the label field at ``start`` ends. Raises DecodeError where there is none."""
    cdef uint64_t size = 0
    cdef int shift = 0
    cdef Py_ssize_t pos = start + 1
    while data[start] == LABEL_TAG and pos < end and shift < 63:
        size |= <uint64_t>(data[pos] & 0x7F) << shift
        pos += 1
        if data[pos - 1] < 128:
            if size <= <uint64_t>(end - pos):
                return pos + <Py_ssize_t>size
            break
        shift += 7
    raise DecodeError("not a label field", offset=start)


cdef inline uint64_t folded(uint64_t one, uint64_t other) noexcept:
    """Multiply, and fold the product of 128 bits."""
    cdef uint128_t product = <uint128_t>one * other
    return <uint64_t>product ^ <uint64_t>(product >> 64)


cdef size_t hash_of(const unsigned char *data, Py_ssize_t size, uint64_t secret) noexcept:
    """Hash a field.

    Both halves of a product count: in the lower one alone, the uppermost bits of two words may be
    chosen so that they cancel each other with half of all secrets.
    """
    cdef uint64_t mixed = folded(<uint64_t>size ^ secret, secret), word
    while size >= 8:
        memcpy(&word, data, 8)
        mixed = folded(mixed ^ word, secret)
        data += 8
        size -= 8
    word = 0
    memcpy(&word, data, <size_t>size)
    return <size_t>folded(mixed ^ word, secret)


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
