# cython: boundscheck=False, wraparound=False, cdivision=True
"""Find the records of an OTLP request of logs or traces by their offsets, in one pass.

* A *record* is a LogRecord or a Span. It is stepped over, never decoded, so its unknown fields and
  their order are kept.
* The *head* of a resource is all of its message but the scopes, that of a scope all of its message
  but the records: the fields in their order, unknown ones among them.
* ResourceLogs and ResourceSpans, ScopeLogs and ScopeSpans number these fields alike
  (opentelemetry-proto, ``logs/v1/logs.proto`` and ``trace/v1/trace.proto``).
* A field of another wire type than its number says is an unknown one, as in protobuf's own parsers.
* A record or head that is so large that its compression would hold the event loop is left out.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from libc.stdint cimport uint64_t
from libc.string cimport memcmp

from relay.codec.resizing cimport resized
from relay.codec.wire_types cimport BYTES, FIXED32, FIXED64, VARINT

from relay.codec.remote_write.v1 import ELEMENTS_MAX, no_pause
from relay.runtime.errors import DecodeError, TooLargeError

cdef enum:
    RESOURCE = 1  # of the request
    CHILDREN = 2  # of a resource: its scopes; of a scope: its records
    RECORD_TAG = 0x12  # of such a field
    FIRST_RECORDS = 64
    FIRST_PARTS = 16
    STEP = 4096  # fields between two pauses; a power of two
    RECORD_BYTES_MAX = 4 << 20  # endpoints take 1 MiB; compressing so many bytes takes 8 ms
    HEAD_BYTES_MAX = 1 << 20


cdef class Reader:
    """Steps over the fields of a body."""

    cdef uint64_t varint(self, Py_ssize_t *at, Py_ssize_t stop) except? 0:
        cdef uint64_t value = 0
        cdef int shift = 0
        cdef Py_ssize_t start = at[0]
        cdef unsigned char byte
        while at[0] < stop:
            byte = self.data[at[0]]
            at[0] += 1
            value |= <uint64_t>(byte & 0x7F) << shift
            if byte < 128:
                return value
            shift += 7
            if shift >= 70:
                raise DecodeError("varint longer than ten bytes", offset=start)
        raise DecodeError("truncated varint", offset=start)

    cdef int read(self, Field *field, Py_ssize_t at, Py_ssize_t stop) except -1:
        """Read the field at ``at`` of a message that ends at ``stop``."""
        cdef uint64_t tag = self.data[at], size
        cdef Py_ssize_t pos = at + 1
        self.steps += 1
        if not self.steps % STEP:
            self.pause()
        if tag > 127:
            pos = at
            tag = self.varint(&pos, stop)
            if tag > 0xFFFFFFFF or pos - at > 5:
                raise DecodeError("field tag over 32 bits", offset=at)
        field.start = at
        field.number = tag >> 3
        field.wire_type = <int>(tag & 7)
        if not field.number:
            raise DecodeError("field number 0", offset=at)
        if field.wire_type == BYTES:
            at = pos
            if pos < stop and self.data[pos] < 128:
                size = self.data[pos]
                pos += 1
            else:
                size = self.varint(&pos, stop)
            if size > <uint64_t>(stop - pos):
                raise DecodeError(f"length {size} runs past the end of its message", offset=at)
            field.payload = pos
            field.end = pos + <Py_ssize_t>size
            return 0
        field.payload = pos
        if field.wire_type == VARINT:
            self.varint(&pos, stop)
        elif field.wire_type == FIXED64:
            pos += 8
        elif field.wire_type == FIXED32:
            pos += 4
        else:
            raise DecodeError(self.foreign(field.wire_type, at, stop), offset=at)
        if pos > stop:
            raise DecodeError("truncated fixed-size field", offset=field.payload)
        field.end = pos
        return 0

    cdef str foreign(self, int wire_type, Py_ssize_t at, Py_ssize_t stop):
        """Return the fault of a tag that no field has; a request may be no protobuf."""
        if not at and self.data[0] == 0x7B:  # {
            return "the body is JSON: send it with Content-Type: application/json"
        if not at and stop > 1 and self.data[0] == 0x1F and self.data[1] == 0x8B:
            return "the body is gzip: send it with Content-Encoding: gzip"
        return f"wire type {wire_type} is not used by proto3"

    cdef int check(self, Py_ssize_t entries) except -1:
        """Raise TooLargeError for more entries than a request may have."""
        if entries > self.entries_max:
            raise TooLargeError(
                f"over {self.entries_max} resources, scopes, metrics, points and records in one "
                "request"
            )
        return 0


@cython.freelist(4)
@cython.no_gc  # its list has bytes alone
cdef class Head:
    """Collects the fields of a message that belong to its head."""

    cdef void begin(self) noexcept:
        """Begin another message."""
        self.start = self.end = self.size = 0
        self.before = None

    cdef int add(self, Field *field) except -1:
        self.size += field.end - field.start
        if field.start == self.end and self.end > self.start:
            self.end = field.end
            return 0
        if self.end > self.start:
            if self.before is None:
                self.before = []
            self.before.append(self.last())
        self.start = field.start
        self.end = field.end
        return 0

    cdef bytes last(self):
        return PyBytes_FromStringAndSize(<char *>self.data + self.start, self.end - self.start)

    cdef bytes whole(self):
        if self.before is None:
            return self.last()
        self.before.append(self.last())
        return b"".join(self.before)


cdef class RequestEnvelope:
    """The entries of a request, numbered in their order: records or data points.

    ``oversized`` counts entries that are left out because they, or a head of theirs, are too large.
    """

    cdef int scan(
        self, bytes body, object pause, Py_ssize_t entries_max, Py_ssize_t head_bytes_max,
        ScanScope scan_scope,
    ) except -1:
        """Find the entries of a request; ``scan_scope`` adds those of a scope."""
        cdef Reader reader = Reader()
        cdef Field field
        cdef Py_ssize_t at = 0, stop = PyBytes_GET_SIZE(body), entries = 0
        self.body = body
        reader.data = <const unsigned char *>PyBytes_AS_STRING(body)
        reader.pause = pause
        reader.entries_max = entries_max
        reader.head_bytes_max = head_bytes_max
        reader.resource = Head()
        reader.scope = Head()
        reader.resource.data = reader.scope.data = reader.data
        while at < stop:
            reader.read(&field, at, stop)
            at = field.end
            if field.number == RESOURCE and field.wire_type == BYTES:
                entries = self.scan_resource(reader, &field, entries + 1, scan_scope)
        return 0

    cdef Py_ssize_t scan_resource(
        self, Reader reader, Field *whole, Py_ssize_t entries, ScanScope scan_scope
    ) except -1:
        """Find the entries of a resource; return the number of entries so far."""
        cdef Head head = reader.resource
        cdef Field field
        cdef list scopes = [] if self.lists_scopes else None
        cdef Py_ssize_t at = whole.payload, first = self.count
        head.begin()
        while at < whole.end:
            reader.read(&field, at, whole.end)
            at = field.end
            if field.number == CHILDREN and field.wire_type == BYTES:
                entries = scan_scope(self, reader, scopes, &field, entries + 1)
            else:
                head.add(&field)
        reader.check(entries)
        self.add_resource(None if self.leaves_out(head.size, first, reader) else head, scopes)
        return entries

    cdef int add_resource(self, Head head, list scopes) except -1:
        """Add a resource if it has entries; None: it is left out with those that it had."""
        raise NotImplementedError

    cdef bint leaves_out(self, Py_ssize_t head_size, Py_ssize_t first, Reader reader) noexcept:
        """Leave out the entries from ``first`` on if their head is too large; return whether."""
        if head_size <= reader.head_bytes_max:
            return False
        self.oversized += self.count - first
        self.count = first
        return True


@cython.final
cdef class Envelope(RequestEnvelope):
    """The records of a request, and its resources and scopes that have any."""

    def __dealloc__(self):
        PyMem_Free(self.records)
        PyMem_Free(self.resource_parts.items)
        PyMem_Free(self.scope_parts.items)

    cdef int grow(self) except -1:
        cdef Py_ssize_t capacity = self.capacity * 2 if self.capacity else FIRST_RECORDS
        self.records = <Slice *>resized(self.records, capacity, sizeof(Slice))
        self.capacity = capacity
        return 0

    cdef int add_part(self, Parts *parts, Head head, Py_ssize_t first, Py_ssize_t stop) except -1:
        """Add a resource or scope."""
        cdef Py_ssize_t capacity
        cdef Part *part
        if parts.count == parts.capacity:
            capacity = parts.capacity * 2 if parts.capacity else FIRST_PARTS
            parts.items = <Part *>resized(parts.items, capacity, sizeof(Part))
            parts.capacity = capacity
        part = &parts.items[parts.count]
        part.start, part.size, part.joined = head.start, head.size, -1
        if head.before is not None:
            if self.joined is None:
                self.joined = []
            part.joined = len(self.joined)
            self.joined.append(head.whole())
        part.first, part.stop = first, stop
        parts.count += 1
        return 0

    cdef int add_resource(self, Head head, list scopes) except -1:
        cdef Py_ssize_t first = self.scopes_added
        if head is None:
            self.scope_parts.count = first
        elif self.scope_parts.count > first:
            self.add_part(&self.resource_parts, head, first, self.scope_parts.count)
        self.scopes_added = self.scope_parts.count
        return 0

    cdef bytes head_of(self, Part *part):
        """Return the head of a resource or scope."""
        if part.joined >= 0:
            return <bytes>self.joined[part.joined]
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.body) + part.start, part.size)

    cdef bint has_head(self, Part *part, bytes head) noexcept:
        """Return whether the head of a resource or scope is this one."""
        cdef char *own = PyBytes_AS_STRING(self.body) + part.start
        if part.size != PyBytes_GET_SIZE(head):
            return False
        if part.joined >= 0:
            own = PyBytes_AS_STRING(<bytes>self.joined[part.joined])
        return not memcmp(own, PyBytes_AS_STRING(head), <size_t>part.size)

    @property
    def resources(self):
        """Head and scopes of each resource; of each scope head, first record, stop."""
        cdef Py_ssize_t number, at, first, stop
        cdef list found = []
        for number in range(self.resource_parts.count):
            head, first, stop = self.resource(number)
            found.append((head, [self.scope(at) for at in range(first, stop)]))
        return found

    @property
    def resource_count(self):
        """Number of resources."""
        return self.resource_parts.count

    def resource(self, Py_ssize_t number):
        """Return the head of a resource, and the numbers of its first scope and behind its last."""
        assert 0 <= number < self.resource_parts.count
        cdef Part *found = &self.resource_parts.items[number]
        return self.head_of(found), found.first, found.stop

    def scope(self, Py_ssize_t number):
        """Return the head of a scope, and the numbers of its first record and behind its last."""
        assert 0 <= number < self.scope_parts.count
        cdef Part *found = &self.scope_parts.items[number]
        return self.head_of(found), found.first, found.stop

    def record(self, Py_ssize_t number):
        """Return a record's message."""
        assert 0 <= number < self.count
        cdef Slice *found = &self.records[number]
        return self.body[found.payload : found.end]

    def record_bytes(self, Py_ssize_t first, Py_ssize_t stop):
        """Return the bytes of these records with their tags and lengths."""
        assert 0 <= first <= stop <= self.count
        cdef Py_ssize_t at, size = 0
        for at in range(first, stop):
            size += self.records[at].end - self.records[at].start
        return size

    def __repr__(self):
        return f"<Envelope {self.count} records of {self.resource_parts.count} resources>"


def scan(bytes body not None, *, Py_ssize_t entries_max=ELEMENTS_MAX, pause=no_pause):
    """Return the envelope of an ExportLogsServiceRequest or ExportTraceServiceRequest.

    Raise DecodeError with the byte offset where it is none, TooLargeError for more than
    ``entries_max`` resources, scopes and records, and what ``pause`` raises.
    """
    cdef Envelope envelope = Envelope()
    RequestEnvelope.scan(envelope, body, pause, entries_max, HEAD_BYTES_MAX, scan_scope)
    return envelope


cdef Py_ssize_t scan_scope(
    RequestEnvelope base, Reader reader, list scopes, Field *whole, Py_ssize_t entries
) except -1:
    """Add a scope and its records; return the number of entries so far."""
    cdef Envelope envelope = <Envelope>base
    cdef Head head = reader.scope
    cdef Field field
    cdef Slice *record
    cdef Slice *last
    cdef const unsigned char *data = reader.data
    cdef Py_ssize_t at = whole.payload, stop = whole.end, first = envelope.count
    cdef Py_ssize_t payload, size, found
    head.begin()
    while at < stop:
        # Nearly all there is: records with a length of one or two bytes, up to the next pause.
        record = &envelope.records[envelope.count]
        last = record + min(envelope.capacity - envelope.count, STEP - (reader.steps & (STEP - 1)))
        while record < last and stop - at > 2 and data[at] == RECORD_TAG:
            size = data[at + 1]
            payload = at + 2
            if size > 127:
                if data[payload] > 127:
                    break
                size = (size & 127) | <Py_ssize_t>data[payload] << 7
                payload += 1
            if size > stop - payload:
                break
            record.start = at
            record.payload = payload
            at = record.end = payload + size
            record += 1
        found = record - &envelope.records[envelope.count]
        if found:
            envelope.count += found
            reader.steps += found
            if not reader.steps & (STEP - 1):
                reader.pause()
        if at == stop:
            break
        reader.read(&field, at, stop)
        at = field.end
        if field.number == CHILDREN and field.wire_type == BYTES:
            if field.end - field.start > RECORD_BYTES_MAX:
                envelope.oversized += 1
                continue
            if envelope.count == envelope.capacity:
                envelope.grow()
                reader.check(entries + envelope.count - first)
            record = &envelope.records[envelope.count]
            record.start = field.start
            record.payload = field.payload
            record.end = field.end
            envelope.count += 1
        else:
            head.add(&field)
    entries += envelope.count - first
    reader.check(entries)
    if not envelope.leaves_out(head.size, first, reader) and envelope.count > first:
        envelope.add_part(&envelope.scope_parts, head, first, envelope.count)
    return entries
