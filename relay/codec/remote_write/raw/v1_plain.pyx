# cython: boundscheck=False, wraparound=False, cdivision=True
"""Encode a raw batch as bodies of remote write 1.0, uncompressed: for a sink that compresses
otherwise, and to compare with v1_snappy.pyx."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from relay.codec.otlp.point_buffer cimport Point
from relay.codec.remote_write.raw.buffer cimport RawEntry
from relay.codec.remote_write.raw.label_table cimport Field, Prefix, count_labels
from relay.codec.remote_write.raw.ordered cimport OrderedBatch
from relay.codec.remote_write.raw.v1_parts cimport (
    FIRST_ROOM, FIRST_STAMP, SERIES_TAG, TAIL_ROOM, TIME_BYTES, Room, Stamp, make_room,
    prefetch_coming, prefix_at, put_sample_head, set_stamp,
)
from relay.codec.varints cimport put_head, varint_size

from relay.codec.body import Body


def encode_plain(OrderedBatch batch not None, uint64_t bytes_max):
    """Return uncompressed bodies of at most ``bytes_max`` bytes, or a single point, as Body."""
    cdef list bodies = []
    cdef Room room
    cdef unsigned char *out
    cdef Py_ssize_t at, label, count, size, points = 0
    cdef Prefix *prefix
    cdef Point *point
    cdef RawEntry entry
    cdef Field *texts = batch.table.fields
    cdef Field *field
    cdef bytes metadata
    cdef Stamp stamp
    cdef bint is_point
    stamp.token = FIRST_STAMP
    set_stamp(&stamp, 0)
    room.size = FIRST_ROOM
    room.begin = out = <unsigned char *>PyMem_Malloc(FIRST_ROOM)
    if out == NULL:
        raise MemoryError
    try:
        for metadata in batch.metadata:
            make_room(&room, &out, PyBytes_GET_SIZE(metadata))
            memcpy(out, PyBytes_AS_STRING(metadata), <size_t>PyBytes_GET_SIZE(metadata))
            out += PyBytes_GET_SIZE(metadata)
        for at in range(batch.count):
            prefetch_coming(batch, at, 0)
            point = &batch.points[at]
            is_point = True
            entry = None
            if point.time_ns:
                prefix = prefix_at(point)
                count = count_labels(<bytes>point.head)
                if point.time_ns != stamp.time_ns:
                    set_stamp(&stamp, point.time_ns)
                size = prefix.key_size + stamp.size + (11 if point.value else 2)
            else:
                entry = <RawEntry>point.head
                is_point = entry.is_point
                prefix = <Prefix *>PyBytes_AS_STRING(entry.prefix)
                count = count_labels(entry.prefix)
                size = prefix.key_size + PyBytes_GET_SIZE(entry.fields)
            if is_point and points and (
                <uint64_t>(out - room.begin + 1 + varint_size(size) + size) > bytes_max
            ):
                bodies.append(plain_body(&room, out, points))
                out = room.begin
                points = 0
            make_room(&room, &out, size + TAIL_ROOM)
            out = put_head(out, SERIES_TAG, size)
            for label in range(count):
                field = &texts[prefix.numbers[label]]
                memcpy(out, field.data, field.size)
                out += field.size
            out = put_point(out, point, &stamp, entry)
            points += is_point
        bodies.append(plain_body(&room, out, points))
    finally:
        PyMem_Free(room.begin)
    return bodies


cdef inline unsigned char *put_point(
    unsigned char *out, Point *point, Stamp *stamp, RawEntry entry
) noexcept:
    """Write the fields behind the labels."""
    if entry is not None:
        memcpy(out, PyBytes_AS_STRING(entry.fields), <size_t>PyBytes_GET_SIZE(entry.fields))
        return out + PyBytes_GET_SIZE(entry.fields)
    put_sample_head(out, point, stamp)
    out += 2
    if point.value:
        memcpy(out + 1, &point.value, 8)
        out += 9
    memcpy(out, stamp.encoded, TIME_BYTES)
    return out + stamp.size


cdef object plain_body(Room *room, unsigned char *out, Py_ssize_t points):
    cdef Py_ssize_t size = out - room.begin
    return Body(PyBytes_FromStringAndSize(<char *>room.begin, size), points, size)
