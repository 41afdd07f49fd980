# cython: boundscheck=False, wraparound=False, cdivision=True
"""Encode a raw batch as snappy blocks of remote write 1.0, in one pass.

What a general compressor searches for is known here. The body is a row of *tokens*: for each point
a head (tag and length), its label fields, the sample's head, and behind the value the time.
``tokens`` and ``positions`` say what was written where; each label field knows its last *slot* in
them. A copy goes on as long as the token behind its source is the next one; otherwise the next
token is copied from its last slot, or written. The block is never searched, and the plain body
never exists. Any snappy decoder reads it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from relay.codec.otlp.point_buffer cimport Point
from relay.codec.remote_write.raw.buffer cimport RawEntry
from relay.codec.remote_write.raw.label_table cimport (
    CHUNK_FIELD_BYTES_MAX, Field, Kind, LabelTable, Prefix, count_labels,
)
from relay.codec.remote_write.raw.ordered cimport OrderedBatch
from relay.codec.remote_write.raw.snappy cimport (
    COPY_MAX, NEAR, Block, add_copy, add_literal, add_short, close_block, open_literal,
)
from relay.codec.remote_write.raw.v1_parts cimport (
    FIRST_ROOM, FIRST_STAMP, SERIES_TAG, TAIL_ROOM, Room, Stamp, make_room, prefetch_coming,
    prefix_at, put_sample_head, set_stamp,
)
from relay.codec.varints cimport put_head, put_varint, varint_size

from relay.codec.body import Body

cdef enum:
    LABEL_ROOM = 6  # tag of snappy before a label
    HEAD_TOKEN = 0x80000000  # and the message's size
    SAMPLE_TOKEN = 0xA0000000  # and the sizes of the time and of what is before the value
    HEADS = 4096  # messages from this size on are never copied with their head
    BLOCK_BYTES_MAX = 1 << 30  # positions have 32 bits; a single point is far smaller
    NEAR_MIN = 5  # shortest copy that pays, by distance
    FAR_MIN = 9


cdef struct Tokens:
    uint32_t *tokens
    uint32_t *positions
    Py_ssize_t count
    Py_ssize_t capacity


cdef inline uint32_t common_size(
    const unsigned char *one, const unsigned char *other, uint32_t most
) noexcept:
    """Return the number of bytes with which both begin."""
    cdef uint32_t size = 0
    cdef uint64_t left, right
    while size + 8 <= most:
        memcpy(&left, one + size, 8)
        memcpy(&right, other + size, 8)
        if left != right:
            break
        size += 8
    while size < most and one[size] == other[size]:
        size += 1
    return size


cdef class SnappyWriter:
    """Writes the snappy blocks of one batch."""

    cdef Room room
    cdef Block block
    cdef Tokens tokens
    cdef Stamp stamp
    cdef LabelTable table
    cdef uint32_t mark
    cdef uint64_t position  # in the plain body
    cdef Py_ssize_t source  # slot that the open copy continues from, -1 without one
    cdef Py_ssize_t points
    cdef list bodies

    def __cinit__(self, LabelTable table not None):
        self.table = table
        self.bodies = []
        self.stamp.token = FIRST_STAMP
        set_stamp(&self.stamp, 0)
        self.room.size = FIRST_ROOM
        self.room.begin = <unsigned char *>PyMem_Malloc(FIRST_ROOM)
        if self.room.begin == NULL:
            raise MemoryError
        self.begin()

    def __dealloc__(self):
        PyMem_Free(self.room.begin)
        PyMem_Free(self.tokens.tokens)
        PyMem_Free(self.tokens.positions)

    cdef void begin(self) noexcept:
        """Begin a body."""
        self.mark = self.table.next_mark()
        self.block.out = self.room.begin
        self.block.literal = NULL
        self.block.copy_size = 0
        self.tokens.count = 0
        self.stamp.slot = self.source = -1
        self.position = 0
        self.points = 0

    cdef int finish(self) except -1:
        """End a body; its size goes before it."""
        cdef unsigned char head[10]
        cdef Py_ssize_t head_size = put_varint(head, self.position) - head
        close_block(&self.block)
        cdef Py_ssize_t size = self.block.out - self.room.begin
        cdef bytes data = PyBytes_FromStringAndSize(NULL, head_size + size)
        memcpy(PyBytes_AS_STRING(data), head, <size_t>head_size)
        memcpy(PyBytes_AS_STRING(data) + head_size, self.room.begin, <size_t>size)
        self.bodies.append(Body(data, self.points, self.position))
        return 0

    cdef int grow_tokens(self, Py_ssize_t more) except -1:
        """Let ``more`` tokens be added."""
        cdef Py_ssize_t capacity = max(self.tokens.capacity, 1024)
        cdef void *moved
        while capacity < self.tokens.count + more:
            capacity *= 2
        moved = PyMem_Realloc(self.tokens.tokens, <size_t>capacity * sizeof(uint32_t))
        if moved == NULL:
            raise MemoryError
        self.tokens.tokens = <uint32_t *>moved
        moved = PyMem_Realloc(self.tokens.positions, <size_t>capacity * sizeof(uint32_t))
        if moved == NULL:
            raise MemoryError
        self.tokens.positions = <uint32_t *>moved
        self.tokens.capacity = capacity
        return 0

    cdef int reserve(self, Py_ssize_t size, Py_ssize_t tokens) except -1:
        """Make room for ``size`` bytes and for tokens."""
        cdef Py_ssize_t literal = -1
        if self.room.size - (self.block.out - self.room.begin) < size:
            if self.block.literal != NULL:
                literal = self.block.literal - self.room.begin
            make_room(&self.room, &self.block.out, size)
            if literal >= 0:
                self.block.literal = self.room.begin + literal
        if self.tokens.capacity - self.tokens.count < tokens:
            self.grow_tokens(tokens)
        return 0

    cdef int write_bytes(self, bytes data) except -1:
        """Write bytes as they are."""
        self.reserve(PyBytes_GET_SIZE(data) + TAIL_ROOM, 0)
        add_literal(&self.block, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        self.position += <uint64_t>PyBytes_GET_SIZE(data)
        self.source = -1
        return 0

    cdef inline void write_head(self, uint64_t size, Field *first) noexcept:
        """Write the head of a series' message of ``size`` bytes; ``first``: its first label."""
        cdef Tokens *tokens = &self.tokens
        cdef unsigned char head[16]
        cdef Py_ssize_t head_size = put_head(head, SERIES_TAG, size) - head
        cdef uint32_t token = HEAD_TOKEN | <uint32_t>size if size < HEADS else HEAD_TOKEN
        cdef bint can_copy = size < HEADS
        if can_copy and self.source >= 0 and tokens.tokens[self.source + 1] == token:
            self.block.copy_size += <uint64_t>head_size
            self.source += 1
        elif (
            can_copy and first != NULL and first.mark == self.mark
            and tokens.tokens[first.slot - 1] == token
        ):
            self.source = <Py_ssize_t>first.slot - 1
            add_copy(
                &self.block, self.position - tokens.positions[self.source], <uint64_t>head_size
            )
        else:
            self.source = -1
            add_short(&self.block, head, head_size)
        tokens.tokens[tokens.count] = token
        tokens.positions[tokens.count] = <uint32_t>self.position
        tokens.count += 1
        self.position += <uint64_t>head_size

    cdef inline void write_labels(self, uint32_t *numbers, Py_ssize_t count) noexcept:
        """Write a series' label fields."""
        cdef uint32_t *tokens = self.tokens.tokens
        cdef uint32_t *positions = self.tokens.positions
        cdef Py_ssize_t slot = self.tokens.count, source = self.source, label
        cdef uint64_t offset
        cdef Field *field
        for label in range(count):
            field = &self.table.fields[numbers[label]]
            positions[slot] = <uint32_t>self.position
            tokens[slot] = numbers[label]
            if source >= 0 and tokens[source + 1] == numbers[label] and not (
                self.block.copy_offset >= NEAR
                and self.block.copy_size % COPY_MAX + field.size > COPY_MAX
                and field.mark == self.mark
                and self.position - positions[field.slot] < NEAR
            ):
                self.block.copy_size += field.size
                source += 1
            elif field.mark == self.mark:
                offset = self.position - positions[field.slot]
                if field.size >= (NEAR_MIN if offset < NEAR else FAR_MIN):
                    add_copy(&self.block, offset, field.size)
                    source = field.slot
                else:
                    add_literal(&self.block, field.data, field.size)
                    source = -1
            else:
                self.write_new(numbers[label], field)
                source = -1
            field.mark = self.mark
            field.slot = <uint32_t>slot
            slot += 1
            self.position += field.size
        self.source = source
        self.tokens.count = slot

    cdef void write_new(self, uint32_t number, Field *field) noexcept:
        """Write a field that is new to the body: what it begins with was perhaps in another."""
        cdef Kind *kind = &self.table.kinds[field.kind]
        cdef Field *other
        cdef uint64_t offset
        cdef uint32_t same = 0
        if kind.mark == self.mark:
            other = &self.table.fields[kind.field]
            offset = self.position - self.tokens.positions[other.slot]
            same = common_size(field.data, other.data, min(field.size, other.size))
            if same >= (NEAR_MIN if offset < NEAR else FAR_MIN) + 1:
                add_copy(&self.block, offset, same)
            else:
                same = 0
        if 0 < field.size - same <= 16 and field.size <= CHUNK_FIELD_BYTES_MAX:
            add_short(&self.block, field.data + same, field.size - same)
        else:
            add_literal(&self.block, field.data + same, field.size - same)
        kind.mark = self.mark
        kind.field = number

    cdef inline void write_sample(self, Point *point) noexcept:
        """Write a sample; the stamp is of its time."""
        cdef Tokens *tokens = &self.tokens
        cdef uint32_t head_size = 3 if point.value else 2
        cdef uint32_t token = SAMPLE_TOKEN | <uint32_t>self.stamp.size << 2 | head_size
        cdef unsigned char *out
        tokens.tokens[tokens.count] = token
        tokens.positions[tokens.count] = <uint32_t>self.position
        tokens.count += 1
        if self.source >= 0 and tokens.tokens[self.source + 1] == token:
            self.block.copy_size += head_size
            self.source += 1
        else:
            self.source = -1
            open_literal(&self.block)
            out = self.block.out
            put_sample_head(out, point, &self.stamp)
            self.block.out += head_size
        self.position += head_size
        if point.value:
            open_literal(&self.block)
            memcpy(self.block.out, &point.value, 8)
            self.block.out += 8
            self.position += 8
            self.source = -1
        self.write_time()

    cdef inline void write_time(self) noexcept:
        """Write the time of a sample."""
        cdef Tokens *tokens = &self.tokens
        cdef uint64_t offset = 0
        tokens.tokens[tokens.count] = self.stamp.token
        tokens.positions[tokens.count] = <uint32_t>self.position
        if self.source >= 0 and tokens.tokens[self.source + 1] == self.stamp.token:
            self.block.copy_size += <uint64_t>self.stamp.size
            self.source += 1
        else:
            self.source = self.stamp.slot
            if self.source >= 0:
                offset = self.position - tokens.positions[self.source]
            if offset and offset < NEAR:
                add_copy(&self.block, offset, <uint64_t>self.stamp.size)
            else:
                self.source = -1
                add_literal(&self.block, self.stamp.encoded, self.stamp.size)
        self.stamp.slot = tokens.count
        tokens.count += 1
        self.position += <uint64_t>self.stamp.size

    cdef int write_point(self, Point *point, uint64_t bytes_max) except -1:
        """Write an entry, perhaps as the first of another body."""
        cdef RawEntry entry = None
        cdef Prefix *prefix
        cdef Py_ssize_t count
        cdef uint64_t size
        cdef bint is_point = True
        if point.time_ns:
            prefix = prefix_at(point)
            count = count_labels(<bytes>point.head)
            if point.time_ns != self.stamp.time_ns:
                set_stamp(&self.stamp, point.time_ns)
            size = <uint64_t>(self.stamp.size + (11 if point.value else 2))
        else:
            entry = <RawEntry>point.head
            is_point = entry.is_point
            prefix = <Prefix *>PyBytes_AS_STRING(entry.prefix)
            count = count_labels(entry.prefix)
            size = <uint64_t>PyBytes_GET_SIZE(entry.fields)
        size += prefix.key_size
        if is_point and self.points and (
            self.position + 1 + <uint64_t>varint_size(size) + size > bytes_max
        ):
            self.finish()
            self.begin()
        self.reserve(<Py_ssize_t>size + count * LABEL_ROOM + TAIL_ROOM, count + 3)
        self.write_head(size, &self.table.fields[prefix.numbers[0]] if count else NULL)
        self.write_labels(prefix.numbers, count)
        if entry is None:
            self.write_sample(point)
        else:
            self.write_bytes(entry.fields)
        self.points += is_point
        return 0


def encode_snappy(OrderedBatch batch not None, uint64_t bytes_max):
    """Return snappy blocks of at most ``bytes_max`` plain bytes, or a single point, as Body."""
    cdef SnappyWriter writer = SnappyWriter(batch.table)
    cdef Py_ssize_t at
    bytes_max = min(bytes_max, <uint64_t>BLOCK_BYTES_MAX)
    for field in batch.metadata:
        writer.write_bytes(<bytes?>field)
    for at in range(batch.count):
        prefetch_coming(batch, at, writer.mark)
        writer.write_point(&batch.points[at], bytes_max)
    writer.finish()
    return writer.bodies
