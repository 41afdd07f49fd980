# Parts that the encoders of remote write 1.0 share.
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Realloc
from libc.stdint cimport uint32_t, uint64_t

from relay.codec.otlp.point_buffer cimport Point
from relay.codec.prefetch cimport LINE, prefetch
from relay.codec.remote_write.raw.label_table cimport Field, Prefix
from relay.codec.remote_write.raw.ordered cimport OrderedBatch
from relay.codec.varints cimport put_varint

cdef enum:
    SERIES_TAG = 0x0A  # WriteRequest.timeseries
    SAMPLE_TAG = 0x12  # TimeSeries.samples
    VALUE_TAG = 0x09  # Sample.value
    TIME_TAG = 0x10  # Sample.timestamp
    TIME_BYTES = 11
    NS_PER_MS = 1_000_000
    AHEAD = 12  # prefetch distances in points: of prefixes, fields, their bytes
    FIELD_AHEAD = 8
    DATA_AHEAD = 4
    TAIL_ROOM = 64  # head of a series, sample, tags of snappy
    FIRST_ROOM = 64 * 1024
    FIRST_STAMP = 0xC0000000


cdef struct Room:
    unsigned char *begin
    Py_ssize_t size


cdef struct Stamp:
    uint64_t time_ns
    unsigned char encoded[TIME_BYTES]
    Py_ssize_t size
    uint32_t token  # FIRST_STAMP, and the number of times before
    Py_ssize_t slot  # -1: not in this body


cdef inline int make_room(Room *room, unsigned char **out, Py_ssize_t more) except -1:
    """Let ``more`` bytes be written at ``out``."""
    cdef Py_ssize_t used = out[0] - room.begin, size = room.size
    cdef void *moved
    if size - used >= more:
        return 0
    while size - used < more:
        size *= 2
    moved = PyMem_Realloc(room.begin, <size_t>size)
    if moved == NULL:
        raise MemoryError
    room.begin = <unsigned char *>moved
    room.size = size
    out[0] = room.begin + used
    return 0


cdef inline Prefix *prefix_at(Point *point) noexcept:
    """Return the prefix of a plain sample."""
    return <Prefix *>PyBytes_AS_STRING(<bytes>point.head)


cdef inline void prefetch_coming(OrderedBatch batch, Py_ssize_t at, uint32_t mark) noexcept:
    """Prefetch the prefixes of later points, and the fields that only they may have."""
    cdef Field *field
    if at + AHEAD >= batch.count:
        return
    prefetch(batch.points[at + AHEAD].head)
    prefetch(<char *>batch.points[at + AHEAD].head + LINE)
    if batch.points[at + FIELD_AHEAD].time_ns:
        prefetch(&batch.table.fields[prefix_at(&batch.points[at + FIELD_AHEAD]).newest])
    if batch.points[at + DATA_AHEAD].time_ns:
        field = &batch.table.fields[prefix_at(&batch.points[at + DATA_AHEAD]).newest]
        if field.mark != mark:
            prefetch(field.data)


cdef inline void set_stamp(Stamp *stamp, uint64_t time_ns) noexcept:
    """Encode another time."""
    stamp.time_ns = time_ns
    stamp.encoded[0] = TIME_TAG
    stamp.size = put_varint(stamp.encoded + 1, time_ns // NS_PER_MS) - stamp.encoded
    stamp.token += 1
    stamp.slot = -1


cdef inline void put_sample_head(unsigned char *out, Point *point, Stamp *stamp) noexcept:
    """Write a sample up to its value, or up to its time if that is zero; three bytes at most."""
    out[0] = SAMPLE_TAG
    out[1] = <unsigned char>(stamp.size + (9 if point.value else 0))
    out[2] = VALUE_TAG
