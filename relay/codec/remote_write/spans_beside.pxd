# Where the labels of a key stand, beside those of a known key: mostly the series before.
from libc.string cimport memcmp

from relay.codec.remote_write.label_spans cimport SPANS_MAX, Span, span_at


cdef inline void move(Span *span, const Span *before, Py_ssize_t distance) noexcept:
    """Set a span to an equal label that stands elsewhere."""
    span.at = before.at + distance
    span.name = before.name + distance
    span.name_size = before.name_size
    span.value = before.value + distance
    span.value_size = before.value_size


cdef inline Py_ssize_t spans_beside(
    const unsigned char *key, Py_ssize_t size, Span *spans, unsigned char *repeated,
    const unsigned char *known, Py_ssize_t known_size, const Span *before, Py_ssize_t known_count
) noexcept:
    """Locate the labels of a key as ``spans_of`` does; tell which are equal to a known key's."""
    cdef Py_ssize_t pos = 0, known_pos = 0, count = 0, field
    cdef bint may_rest_be_equal = True
    cdef Span *span
    while pos < size:
        if count == SPANS_MAX:
            return -1
        span = &spans[count]
        repeated[count] = 0
        if count < known_count:
            # One comparison for all labels of the target that are behind its own.
            if may_rest_be_equal and known_size - known_pos == size - pos and not memcmp(
                key + pos, known + known_pos, <size_t>(size - pos)
            ):
                for count in range(count, known_count):
                    move(&spans[count], &before[count], pos - known_pos)
                    repeated[count] = 1
                return known_count
            field = before[count].value + before[count].value_size - known_pos
            if field <= size - pos and not memcmp(key + pos, known + known_pos, <size_t>field):
                move(span, &before[count], pos - known_pos)
                repeated[count] = 1
            may_rest_be_equal = not repeated[count]
            known_pos += field
        if not repeated[count] and not span_at(key, pos, size, span):
            return -1
        pos = span.value + span.value_size
        count += 1
    return count
