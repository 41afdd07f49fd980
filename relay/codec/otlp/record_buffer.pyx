# cython: boundscheck=False, wraparound=False, cdivision=True
"""Growable buffer of one batch's log records or spans, and the requests made of it.

* Records are copied once, as they came: tag, length and message. Rows of records that stand
  together in a request are one copy.
* A *run* assigns a row of records to a :class:`RecordGroup`: the heads of its resource and scope
  (:mod:`relay.codec.otlp.envelope`). Equal heads are one resource, or one scope, of a request.
* A request is cut by the bytes that it really has: sizes are known before anything is written.
* ``count`` and ``size`` of the base are the number of records and their bytes, and ``finished`` is
  the bytes of the heads of all runs.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from relay.codec.otlp.envelope cimport Envelope, Slice
from relay.codec.otlp.point_buffer cimport PointBuffer, Run
from relay.codec.varints cimport field_size, put_head

cdef enum:
    FIRST_BYTES = 1024
    RESOURCE_TAG = 0x0A  # of the request: resource_logs, resource_spans
    SCOPE_TAG = 0x12  # of a resource: scope_logs, scope_spans


cdef class RecordGroup:
    """The heads of a resource and a scope. Compared by identity; equal ones may be several.

    Records with the same ``shard_key`` never overtake each other.
    """

    def __init__(self, bytes resource not None, bytes scope not None, Py_ssize_t shard_key=0):
        self.resource = resource
        self.scope = scope
        self.shard_key = shard_key

    def __repr__(self):
        return f"<RecordGroup {len(self.resource)}+{len(self.scope)} bytes>"


cdef struct Row:  # of records that stand together in the buffer
    void *group
    char *resource
    Py_ssize_t resource_size
    char *scope
    Py_ssize_t scope_size
    char *data
    Py_ssize_t size
    Py_ssize_t count
    Py_ssize_t resource_number  # equal for rows of one resource
    Py_ssize_t scope_number  # equal for rows of one scope of one resource
    Py_ssize_t next  # row of the same scope in order of arrival; -1: none


cdef struct Chain:  # of a resource's scopes, or of a scope's rows
    Py_ssize_t first
    Py_ssize_t last
    Py_ssize_t next  # scope of the same resource; -1: none


cdef inline Py_ssize_t record_end(char *data) noexcept:
    """Return the size of the record at ``data``, which was read before: it is whole."""
    cdef unsigned char *at = <unsigned char *>data
    cdef uint64_t size = 0
    cdef int shift = 0
    while at[0] > 127:
        at += 1
    at += 1
    while at[0] > 127:
        size |= <uint64_t>(at[0] & 0x7F) << shift
        shift += 7
        at += 1
    size |= <uint64_t>at[0] << shift
    return (<char *>at - data) + 1 + <Py_ssize_t>size


cdef class RecordBuffer(PointBuffer):
    """Hold the records of one batch; records after the last closed run belong to the next run."""

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef void forget(self, Py_ssize_t points, Py_ssize_t runs) noexcept:
        """Release all records and runs beyond the given numbers."""
        self.count = points
        while self.runs_count > runs:
            self.runs_count -= 1
            Py_DECREF(<object>self.runs[self.runs_count].group)

    cpdef expect_as_many(self, PointBuffer before):
        """Make room for as many runs and bytes, see :meth:`PointBuffer.expect_as_many`."""
        PointBuffer.expect_as_many(self, before)
        self.expected_bytes = before.size + before.size // 16

    cdef int reserve(self, Py_ssize_t size) except -1:
        """Make room for so many bytes more."""
        cdef Py_ssize_t wanted = self.size + size, capacity
        cdef void *data
        if wanted <= self.data_capacity:
            return 0
        capacity = self.data_capacity * 2
        if not capacity:
            capacity = max(self.expected_bytes, <Py_ssize_t>FIRST_BYTES)
        capacity = max(wanted, capacity)
        data = PyMem_Realloc(self.data, <size_t>capacity)
        if data == NULL:
            raise MemoryError
        self.data = <char *>data
        self.data_capacity = capacity
        return 0

    cdef void note_heads(self, RecordGroup group) noexcept:
        """Count the heads of a run that begins."""
        self.finished += PyBytes_GET_SIZE(group.resource) + PyBytes_GET_SIZE(group.scope)

    cpdef append(self, Envelope envelope, Py_ssize_t first, Py_ssize_t stop):
        """Append the records ``first`` to ``stop`` of a request."""
        assert 0 <= first < stop <= envelope.count
        cdef Slice *records = envelope.records
        cdef char *body = PyBytes_AS_STRING(envelope.body)
        cdef Py_ssize_t at = first, start, end
        self.reserve(records[stop - 1].end - records[first].start)
        while at < stop:
            start = records[at].start
            end = records[at].end
            at += 1
            while at < stop and records[at].start == end:
                end = records[at].end
                at += 1
            memcpy(self.data + self.size, body + start, <size_t>(end - start))
            self.size += end - start
        self.count += stop - first

    def append_bytes(self, bytes fields not None, Py_ssize_t count):
        """Append ``count`` records that were encoded anew, each with its tag and length."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(fields)
        self.reserve(size)
        memcpy(self.data + self.size, PyBytes_AS_STRING(fields), <size_t>size)
        self.size += size
        self.count += count

    def add(self, *_):
        """Raise TypeError: a record is no number point."""
        raise TypeError("a record is appended by append()")

    def add_finished(self, point not None):
        """Raise TypeError: a record is no point."""
        raise TypeError("a record is appended by append()")

    cpdef cut(self, Py_ssize_t count, Py_ssize_t size, Py_ssize_t runs, Py_ssize_t rest):
        """Restore an earlier state, see :meth:`PointBuffer.cut`."""
        PointBuffer.cut(self, count, size, runs, rest)
        if not count:
            PyMem_Free(self.data)
            self.data = NULL
            self.data_capacity = 0

    cpdef Py_ssize_t room(self):
        """Return the approximate memory in bytes, without the heads, which are shared."""
        return self.data_capacity + self.runs_capacity * <Py_ssize_t>sizeof(Run)

    def equals(self, PointBuffer other not None):
        """Return whether both hold the same records of the same groups.

        False negatives are possible: groups are compared by address.
        """
        if not isinstance(other, RecordBuffer):
            return False
        cdef RecordBuffer another = <RecordBuffer>other
        if self.count != another.count or self.size != another.size:
            return False
        if self.runs_count != another.runs_count:
            return False
        cdef size_t runs = <size_t>self.runs_count * sizeof(Run)
        return (not runs or not memcmp(self.runs, another.runs, runs)) and (
            not self.size or not memcmp(self.data, another.data, <size_t>self.size)
        )

    def records(self):
        """Yield every record with its group, in order of arrival; all runs must be closed."""
        cdef Py_ssize_t run, size, start = 0
        cdef list found = []
        for run in range(self.runs_count):
            while start < self.runs[run].size:
                size = record_end(self.data + start)
                found.append((
                    <object>self.runs[run].group,
                    PyBytes_FromStringAndSize(self.data + start, size),
                ))
                start += size
        return iter(found)

    def encode(self):
        """Return one request of all records; all runs must be closed.

        It has one resource for each head of one, and one scope in that for each head of one, in
        order of first appearance. Records of a scope keep their order.
        """
        if not self.count:
            return b""
        ((body, _),) = self.pieces(<Py_ssize_t>1 << 62)
        return body

    def pieces(self, Py_ssize_t bytes_max):
        """Return requests of up to ``bytes_max`` bytes, each with its number of records.

        A record that is larger by itself has a request of its own.
        """
        cdef list pieces = []
        cdef Row *rows = NULL
        cdef Py_ssize_t count
        try:
            # In order of arrival, then as they are written.
            rows = <Row *>PyMem_Malloc(<size_t>max(self.runs_count, 1) * 2 * sizeof(Row))
            if rows == NULL:
                raise MemoryError
            count = order_rows(self, rows, rows + self.runs_count)
            cut_rows(rows + self.runs_count, count, bytes_max, pieces)
        finally:
            PyMem_Free(rows)
        return pieces

    def __repr__(self):
        return f"<RecordBuffer {self.count} records in {self.runs_count} runs>"


cdef Py_ssize_t order_rows(RecordBuffer buffer, Row *arrived, Row *rows) except -1:
    """Fill in the rows in the order of a request; return their number."""
    cdef Chain *resources
    cdef Chain *scopes
    cdef Py_ssize_t count = 0, resource, scope, resources_count, at
    resources = <Chain *>PyMem_Malloc(<size_t>max(buffer.runs_count, 1) * 2 * sizeof(Chain))
    if resources == NULL:
        raise MemoryError
    scopes = resources + buffer.runs_count
    try:
        resources_count = chain_rows(buffer, arrived, resources, scopes)
        for resource in range(resources_count):
            scope = resources[resource].first
            while scope >= 0:
                at = scopes[scope].first
                while at >= 0:
                    rows[count] = arrived[at]
                    count += 1
                    at = arrived[at].next
                scope = scopes[scope].next
    finally:
        PyMem_Free(resources)
    return count


cdef Py_ssize_t chain_rows(
    RecordBuffer buffer, Row *rows, Chain *resources, Chain *scopes
) except -1:
    """Fill in the rows of all runs, by scope and resource; return the number of resources.

    A group is known by the number of its first row, which it keeps: it counts if the row of that
    number is the group's. Nearly all others are found by the resource's first scope.
    """
    cdef dict by_resource = {}
    cdef dict by_scope = {}
    cdef Py_ssize_t run, count = 0, start = 0, first = 0, resource, scope
    cdef Py_ssize_t resources_count = 0, scopes_count = 0
    cdef RecordGroup group
    cdef Row *row
    for run in range(buffer.runs_count):
        group = <RecordGroup><object>buffer.runs[run].group
        if buffer.runs[run].end == first:
            continue
        row = &rows[count]
        row.group = <void *>group
        row.resource = PyBytes_AS_STRING(group.resource)
        row.resource_size = PyBytes_GET_SIZE(group.resource)
        row.scope = PyBytes_AS_STRING(group.scope)
        row.scope_size = PyBytes_GET_SIZE(group.scope)
        row.data = buffer.data + start
        row.size = buffer.runs[run].size - start
        row.count = buffer.runs[run].end - first
        row.next = -1
        start = buffer.runs[run].size
        first = buffer.runs[run].end
        if not (0 <= group.row < count and rows[group.row].group == <void *>group):
            group.row = count
            resource_found = by_resource.get(group.resource)
            if resource_found is None:
                resource = resources_count
                by_resource[group.resource] = resource
                resources[resource].first = -1
                resources_count += 1
                scope = -1
            else:
                resource = resource_found
                scope = resources[resource].first
                if not has_scope(&rows[scopes[scope].first], group.scope):
                    found = by_scope.get((resource, group.scope))
                    scope = -1 if found is None else <Py_ssize_t>found
            if scope < 0:
                scope = scopes_count
                scopes_count += 1
                scopes[scope].first = scopes[scope].next = -1
                if resources[resource].first < 0:
                    resources[resource].first = scope
                else:
                    scopes[resources[resource].last].next = scope
                    by_scope[resource, group.scope] = scope
                resources[resource].last = scope
            row.resource_number = resource + 1
        else:
            scope = rows[group.row].scope_number - 1
            row.resource_number = rows[group.row].resource_number
        row.scope_number = scope + 1
        if scopes[scope].first < 0:
            scopes[scope].first = count
        else:
            rows[scopes[scope].last].next = count
        scopes[scope].last = count
        count += 1
    assert start == buffer.size and first == buffer.count, "runs must tile the buffer"
    return resources_count


cdef inline bint has_scope(Row *row, bytes scope) noexcept:
    return row.scope_size == PyBytes_GET_SIZE(scope) and not memcmp(
        row.scope, PyBytes_AS_STRING(scope), <size_t>row.scope_size
    )


cdef struct Sizes:  # of a request while it grows
    Py_ssize_t request  # of its closed resources
    Py_ssize_t resource  # of the message of the open resource, without the open scope
    Py_ssize_t scope  # of the message of the open scope
    Py_ssize_t resource_number
    Py_ssize_t scope_number


cdef inline Py_ssize_t total(Sizes *sizes) noexcept:
    """Return the size of the request if it ended here."""
    if not sizes.scope_number:
        return 0
    return sizes.request + field_size(sizes.resource + field_size(sizes.scope))


cdef inline void enlarge(Sizes *sizes, Row *row, Py_ssize_t size) noexcept:
    """Count ``size`` bytes of records of a row."""
    if sizes.scope_number != row.scope_number:
        if sizes.scope_number:
            sizes.resource += field_size(sizes.scope)
        if sizes.resource_number != row.resource_number:
            if sizes.resource_number:
                sizes.request += field_size(sizes.resource)
            sizes.resource = row.resource_size
            sizes.resource_number = row.resource_number
        sizes.scope = row.scope_size
        sizes.scope_number = row.scope_number
    sizes.scope += size


cdef int cut_rows(Row *rows, Py_ssize_t count, Py_ssize_t bytes_max, list pieces) except -1:
    """Write the requests of all rows."""
    cdef Sizes sizes, wider
    cdef Py_ssize_t at, size, taken, number, first = 0, records = 0
    cdef Row *row
    cdef Row rest
    sizes.request = sizes.resource = sizes.scope = sizes.resource_number = sizes.scope_number = 0
    for at in range(count):
        row = &rows[at]
        wider = sizes
        enlarge(&wider, row, row.size)
        if total(&wider) <= bytes_max:
            sizes = wider
            records += row.count
            continue
        # Record by record: a part of the row ends the request, the rest begins the next one.
        taken = number = 0
        while number < row.count:
            size = record_end(row.data + taken)
            wider = sizes
            enlarge(&wider, row, size)
            if records and total(&wider) > bytes_max:
                rest = row[0]
                row.size = taken
                row.count = number
                pieces.append((write(rows, first, at + (taken > 0), total(&sizes)), records))
                row[0] = rest
                row.data += taken
                row.size -= taken
                row.count -= number
                first = at
                taken = number = records = 0
                sizes.request = sizes.resource = sizes.scope = 0
                sizes.resource_number = sizes.scope_number = 0
                continue
            sizes = wider
            taken += size
            number += 1
            records += 1
    if records:
        pieces.append((write(rows, first, count, total(&sizes)), records))
    return 0


cdef bytes write(Row *rows, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t size):
    """Write the request of these rows, of ``size`` bytes."""
    cdef bytes request = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(request)
    cdef unsigned char *end = out + size
    cdef Py_ssize_t at = first, scope, behind, resource_size, scope_size
    cdef Row *row
    while at < stop:
        row = &rows[at]
        resource_size = row.resource_size
        behind = at
        while behind < stop and rows[behind].resource_number == row.resource_number:
            resource_size += field_size(scope_bytes(rows, behind, stop, &behind))
        out = put_head(out, RESOURCE_TAG, <uint64_t>resource_size)
        memcpy(out, row.resource, <size_t>row.resource_size)
        out += row.resource_size
        while at < behind:
            scope_size = scope_bytes(rows, at, behind, &scope)
            out = put_head(out, SCOPE_TAG, <uint64_t>scope_size)
            memcpy(out, rows[at].scope, <size_t>rows[at].scope_size)
            out += rows[at].scope_size
            while at < scope:
                memcpy(out, rows[at].data, <size_t>rows[at].size)
                out += rows[at].size
                at += 1
    assert out == end, "sizes are measured before"
    return request


cdef Py_ssize_t scope_bytes(
    Row *rows, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t *behind
) noexcept:
    """Return the size of the scope's message that begins at a row, and the row behind it."""
    cdef Py_ssize_t number = rows[at].scope_number
    cdef Py_ssize_t size = rows[at].scope_size
    while at < stop and rows[at].scope_number == number:
        size += rows[at].size
        at += 1
    behind[0] = at
    return size
