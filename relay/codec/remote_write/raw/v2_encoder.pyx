# cython: boundscheck=False, wraparound=False, cdivision=True
"""Encode a raw batch as bodies of remote write 2.0, uncompressed.

* Names and values of a table's label fields are numbered once as *symbols*
  (:class:`SymbolTable`). Each body gives references to those that it names, in order of first use.
* A label that a body named before costs one load: its two references are kept encoded.
* A point whose symbols do not fit begins the next body, and takes them along.
* Exemplars that came alone join the first point of their series in the batch: a TimeSeries without
  points is refused by receivers.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from relay.codec.otlp.point_buffer cimport Point
from relay.codec.prefetch cimport LINE, prefetch
from relay.codec.remote_write.raw.buffer cimport RawEntry
from relay.codec.remote_write.raw.label_table cimport LabelTable, Prefix, count_labels
from relay.codec.remote_write.raw.ordered cimport OrderedBatch
from relay.codec.varints cimport put_head, put_varint, varint_size
from relay.codec.resizing cimport resized

from relay.codec.body import Body
from relay.codec.protobuf import field_bytes
from relay.codec.remote_write.encode import encode_metadata2, encode_value_and_time
from relay.codec.remote_write.raw_series import label_fields
from relay.codec.remote_write.v2 import Metadata2

cdef enum:
    SYMBOL_TAG = 0x22  # Request.symbols
    SERIES_TAG = 0x2A  # Request.timeseries
    REFS_TAG = 0x0A  # TimeSeries.labels_refs
    SAMPLE_TAG = 0x12  # TimeSeries.samples
    VALUE_TAG = 0x09  # Sample.value
    TIME_TAG = 0x10  # Sample.timestamp
    LABEL_TAG = 0x0A  # Label.name, and TimeSeries.labels of 1.0 around it
    TEXT_TAG = 0x12  # Label.value
    NS_PER_MS = 1_000_000
    TIME_BYTES = 11
    REFS_BYTES = 10  # most of the two references of a label
    TAIL_ROOM = 64  # heads and sample of a series
    FIRST_ROOM = 64 * 1024
    FIRST_SYMBOLS = 64
    SYMBOL_BYTES = 120  # of bytes object, dictionary entry and reference
    AHEAD = 12  # prefetch distance in points


cdef struct Symbol:
    unsigned char *data
    uint32_t size
    uint32_t mark  # of the body that it is in, see SymbolTable.mark
    uint32_t ref  # its number there


cdef struct Label:
    uint32_t mark
    unsigned char size
    unsigned char refs[REFS_BYTES]
    uint32_t name  # numbers of symbols
    uint32_t value


cdef struct Text:
    unsigned char *data
    Py_ssize_t size


cdef class SymbolTable:
    """Number the names and values of a LabelTable's fields; number 0 is the empty one."""

    cdef dict numbers
    cdef list texts
    cdef Symbol *symbols
    cdef Py_ssize_t capacity
    cdef Label *labels
    cdef Py_ssize_t labels_count
    cdef Py_ssize_t labels_capacity
    cdef uint32_t mark
    cdef Py_ssize_t texts_bytes

    def __cinit__(self):
        self.numbers = {}
        self.texts = []
        self.number(b"")

    def __dealloc__(self):
        PyMem_Free(self.symbols)
        PyMem_Free(self.labels)

    cdef uint32_t number(self, bytes text) except? 0:
        """Return the number of a symbol."""
        cdef Py_ssize_t count = len(self.texts)
        cdef object found = self.numbers.get(text)
        if found is not None:
            return found
        if count == self.capacity:
            self.capacity = count * 2 if count else FIRST_SYMBOLS
            self.symbols = <Symbol *>resized(self.symbols, self.capacity, sizeof(Symbol))
        self.symbols[count].data = <unsigned char *>PyBytes_AS_STRING(text)
        self.symbols[count].size = <uint32_t>PyBytes_GET_SIZE(text)
        self.symbols[count].mark = 0
        self.texts.append(text)
        self.texts_bytes += PyBytes_GET_SIZE(text)
        self.numbers[text] = count
        return <uint32_t>count

    cdef int follow(self, LabelTable table) except -1:
        """Number the symbols of fields that the table got since."""
        cdef Py_ssize_t count = table.count
        cdef Label *label
        if count > self.labels_capacity:
            self.labels_capacity = count + count // 2
            self.labels = <Label *>resized(self.labels, self.labels_capacity, sizeof(Label))
        while self.labels_count < count:
            name, value = texts_of(table.field(<uint32_t>self.labels_count))
            label = &self.labels[self.labels_count]
            label.mark = 0
            label.name = self.number(name)
            label.value = self.number(value)
            self.labels_count += 1
        return 0

    @property
    def memory_bytes(self):
        """Bytes of memory that it takes, approximately."""
        cdef size_t arrays = <size_t>self.capacity * sizeof(Symbol)
        arrays += <size_t>self.labels_capacity * sizeof(Label)
        return arrays + self.texts_bytes + SYMBOL_BYTES * len(self.texts)

    cdef uint32_t next_mark(self) noexcept:
        """Return the mark of a new body, which names no symbol."""
        cdef Py_ssize_t at
        self.mark += 1
        if not self.mark:
            for at in range(len(self.texts)):
                self.symbols[at].mark = 0
            for at in range(self.labels_count):
                self.labels[at].mark = 0
            self.mark = 1
        return self.mark


cdef tuple texts_of(bytes field):
    """Return name and value of a label field."""
    cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(field)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(field), at
    if 6 <= size < 128 and data[1] + 2 == size and data[2] == LABEL_TAG and data[3] + 6 <= size:
        at = 4 + data[3]
        if data[at] == TEXT_TAG and at + 2 + data[at + 1] == size:
            return field[4:at], field[at + 2:]
    for _, name, value in label_fields(field):
        return name, value
    return b"", b""


cdef class Request:
    """Writes the bodies of one batch."""

    cdef SymbolTable symbols
    cdef LabelTable table
    cdef uint64_t bytes_max
    cdef uint32_t mark
    cdef unsigned char *begin
    cdef unsigned char *out  # behind the last message
    cdef Py_ssize_t room
    cdef unsigned char *refs  # of one series
    cdef Py_ssize_t refs_room
    cdef Text *named  # the body's symbols
    cdef Py_ssize_t named_count
    cdef Py_ssize_t named_capacity
    cdef Py_ssize_t named_size  # encoded
    cdef dict others  # symbols of exemplars and declarations that are no label's, for the body
    cdef list kept  # texts of ``named`` that nothing else holds
    cdef Py_ssize_t points
    cdef list bodies

    def __cinit__(self, LabelTable table not None, uint64_t bytes_max):
        if table.symbols is None:
            table.symbols = SymbolTable()
        self.symbols = table.symbols
        self.symbols.follow(table)
        self.table = table
        self.bytes_max = bytes_max
        self.bodies = []
        self.room = FIRST_ROOM
        self.begin = <unsigned char *>resized(NULL, FIRST_ROOM, 1)
        self.start()

    def __dealloc__(self):
        PyMem_Free(self.begin)
        PyMem_Free(self.refs)
        PyMem_Free(self.named)

    cdef int start(self) except -1:
        """Begin a body."""
        self.mark = self.symbols.next_mark()
        self.out = self.begin
        self.named_count = self.named_size = self.points = 0
        self.others = {}
        self.kept = []
        self.ref_of(0)
        return 0

    cdef int finish(self) except -1:
        """End a body."""
        cdef Py_ssize_t messages = self.out - self.begin, at
        cdef bytes data = PyBytes_FromStringAndSize(NULL, self.named_size + messages)
        cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(data)
        for at in range(self.named_count):
            out = put_head(out, SYMBOL_TAG, <uint64_t>self.named[at].size)
            memcpy(out, self.named[at].data, <size_t>self.named[at].size)
            out += self.named[at].size
        memcpy(out, self.begin, <size_t>messages)
        assert out + messages == <unsigned char *>PyBytes_AS_STRING(data) + PyBytes_GET_SIZE(data)
        self.bodies.append(Body(data, self.points, PyBytes_GET_SIZE(data)))
        return 0

    cdef int name(self, unsigned char *data, Py_ssize_t size) except -1:
        """Give the next reference to a symbol."""
        if self.named_count == self.named_capacity:
            self.named_capacity = max(self.named_capacity * 2, FIRST_SYMBOLS)
            self.named = <Text *>resized(self.named, self.named_capacity, sizeof(Text))
        self.named[self.named_count].data = data
        self.named[self.named_count].size = size
        self.named_count += 1
        self.named_size += 1 + varint_size(<uint64_t>size) + size
        return 0

    cdef uint32_t ref_of(self, uint32_t number) except? 0:
        """Return the reference to a symbol of the table."""
        cdef Symbol *symbol = &self.symbols.symbols[number]
        if symbol.mark != self.mark:
            symbol.mark = self.mark
            symbol.ref = <uint32_t>self.named_count
            self.name(symbol.data, symbol.size)
        return symbol.ref

    def ref_of_text(self, bytes text not None):
        """Return the reference to any text."""
        number = self.symbols.numbers.get(text)
        if number is not None:
            return self.ref_of(number)
        found = self.others.get(text)
        if found is None:
            found = self.others[text] = self.named_count
            self.kept.append(text)
            self.name(<unsigned char *>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        return found

    cdef Py_ssize_t write_refs(self, uint32_t *numbers, Py_ssize_t count) except -1:
        """Write a series' references to ``refs`` and return their bytes."""
        cdef Label *label
        cdef unsigned char *out
        cdef Py_ssize_t at
        if self.refs_room < count * REFS_BYTES + REFS_BYTES:
            self.refs_room = 2 * count * REFS_BYTES + REFS_BYTES
            self.refs = <unsigned char *>resized(self.refs, self.refs_room, 1)
        out = self.refs
        for at in range(count):
            label = &self.symbols.labels[numbers[at]]
            if label.mark != self.mark:
                self.write_label(label)
            memcpy(out, label.refs, REFS_BYTES)  # a constant size, which the compiler inlines
            out += label.size
        return out - self.refs

    cdef int write_label(self, Label *label) except -1:
        """Encode the references of a label that is new to the body."""
        cdef uint32_t name = self.ref_of(label.name), value = self.ref_of(label.value)
        cdef unsigned char *end = put_varint(put_varint(label.refs, name), value)
        label.size = <unsigned char>(end - label.refs)
        label.mark = self.mark
        return 0

    cdef bytes tail_of(self, object exemplars, object declaration):
        """Return the fields of exemplars and metadata."""
        cdef list parts = []
        for exemplar in exemplars:
            refs = b"".join([
                encoded_ref(self.ref_of_text(text))
                for _, name, value in label_fields(exemplar.labels)
                for text in (name, value)
            ])
            head = field_bytes(b"\x0a", refs) if refs else b""
            parts.append(field_bytes(b"\x22", head + encode_value_and_time(exemplar)))
        if declaration is not None:
            parts.append(encode_metadata2(Metadata2(*declaration), self.ref_of_text))
        return b"".join(parts)

    cdef int write(self, Point *point, tuple alone) except -1:
        """Write a point, perhaps as the first of another body; ``alone``: more exemplars."""
        cdef Py_ssize_t named_count = self.named_count, named_size = self.named_size
        cdef Py_ssize_t size, refs_size, fields_size
        cdef RawEntry entry = None
        cdef bytes prefix, tail = b""
        cdef Prefix *head
        cdef Py_ssize_t count
        cdef tuple exemplars = alone
        cdef unsigned char sample[2 + 9 + TIME_BYTES]
        cdef unsigned char *fields = sample
        if point.time_ns:
            prefix = <bytes>point.head
            fields_size = put_sample(sample, point) - sample
        else:
            entry = <RawEntry>point.head
            prefix = entry.prefix
            fields = <unsigned char *>PyBytes_AS_STRING(entry.fields)
            fields_size = PyBytes_GET_SIZE(entry.fields)
            exemplars = alone + entry.exemplars
        head = <Prefix *>PyBytes_AS_STRING(prefix)
        count = count_labels(prefix)
        refs_size = self.write_refs(head.numbers, count)
        if exemplars or (count + 2) * 4 < PyBytes_GET_SIZE(prefix):
            tail = self.tail_of(exemplars, self.table.declaration_of(prefix))
        size = 1 + varint_size(<uint64_t>refs_size) + refs_size + fields_size
        size += PyBytes_GET_SIZE(tail)
        if self.points and <uint64_t>(
            self.named_size + (self.out - self.begin) + 1 + varint_size(<uint64_t>size) + size
        ) > self.bytes_max:
            self.named_count = named_count
            self.named_size = named_size
            self.finish()
            self.start()
            return self.write(point, alone)
        self.reserve(size + TAIL_ROOM)
        self.out = put_head(self.out, SERIES_TAG, <uint64_t>size)
        self.out = put_head(self.out, REFS_TAG, <uint64_t>refs_size)
        self.add(self.refs, refs_size)
        self.add(fields, fields_size)
        self.add(<unsigned char *>PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
        self.points += 1
        return 0

    cdef inline void add(self, const unsigned char *data, Py_ssize_t size) noexcept:
        memcpy(self.out, data, <size_t>size)
        self.out += size

    cdef int reserve(self, Py_ssize_t size) except -1:
        """Make room for ``size`` bytes."""
        cdef Py_ssize_t used = self.out - self.begin
        if self.room - used < size:
            self.room = 2 * self.room + size
            self.begin = <unsigned char *>resized(self.begin, self.room, 1)
            self.out = self.begin + used
        return 0


cdef bytes encoded_ref(uint32_t ref):
    cdef unsigned char out[5]
    return PyBytes_FromStringAndSize(<char *>out, put_varint(out, ref) - out)


cdef inline unsigned char *put_sample(unsigned char *out, Point *point) noexcept:
    """Write the sample's field."""
    cdef unsigned char *end = out + 2
    if point.value:
        end[0] = VALUE_TAG
        memcpy(end + 1, &point.value, 8)
        end += 9
    end[0] = TIME_TAG
    end = put_varint(end + 1, point.time_ns // NS_PER_MS)
    out[0] = SAMPLE_TAG
    out[1] = <unsigned char>(end - out - 2)
    return end


cdef dict exemplars_alone(OrderedBatch batch):
    """Return the exemplars that came without a point, by prefix."""
    cdef dict found = {}
    cdef Py_ssize_t at
    cdef RawEntry entry
    for at in range(batch.count):
        if not batch.points[at].time_ns:
            entry = <RawEntry>batch.points[at].head
            if not entry.is_point:
                found[entry.prefix] = found.get(entry.prefix, ()) + entry.exemplars
    return found


def encode_plain(OrderedBatch batch not None, uint64_t bytes_max):
    """Return uncompressed bodies of at most ``bytes_max`` bytes, or a single point, as Body."""
    cdef Request request = Request(batch.table, bytes_max)
    cdef dict alone = exemplars_alone(batch) if batch.has_riders else {}
    cdef Py_ssize_t at
    cdef Point *point
    cdef bytes prefix
    for at in range(batch.count):
        if at + AHEAD < batch.count:
            prefetch(batch.points[at + AHEAD].head)
            prefetch(<char *>batch.points[at + AHEAD].head + LINE)
        point = &batch.points[at]
        if not point.time_ns and not (<RawEntry>point.head).is_point:
            continue
        if alone:
            prefix = <bytes>point.head if point.time_ns else (<RawEntry>point.head).prefix
            request.write(point, alone.pop(prefix, ()))
        else:
            request.write(point, ())
    request.finish()
    if alone:
        lost = sum(map(len, alone.values()))
        request.bodies.append(request.bodies.pop()._replace(lone_exemplars=lost))
    return request.bodies
