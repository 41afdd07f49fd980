# Where the labels of a key stand, and whether they are a series': read from raw memory.
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy


cdef enum:
    SPANS_MAX = 128  # most labels of a key parsed on raw memory; longer keys take the slow path
    LABEL_TAG = 0x0A  # TimeSeries.labels
    NAME_TAG = 0x0A
    VALUE_TAG = 0x12
    NAME_BYTES = 8  # length of __name__


cdef struct Span:
    # One label of a key: offset of its message, offset and size of name and value.
    Py_ssize_t at
    Py_ssize_t name
    Py_ssize_t name_size
    Py_ssize_t value
    Py_ssize_t value_size


cdef inline Py_ssize_t length_at(
    const unsigned char *key, Py_ssize_t *pos, Py_ssize_t end
) noexcept:
    """Read a minimal length of one or two bytes; -1 for any other, or if it runs past the end."""
    cdef Py_ssize_t at = pos[0], size
    if at >= end:
        return -1
    size = key[at]
    at += 1
    if size > 127:
        if at >= end or key[at] > 127 or not key[at]:
            return -1
        size += (<Py_ssize_t>key[at] << 7) - 128
        at += 1
    pos[0] = at
    return size if size <= end - at else -1


cdef inline bint span_at(
    const unsigned char *key, Py_ssize_t pos, Py_ssize_t size, Span *span
) noexcept:
    """Locate the label whose field begins at ``pos``; False for other than canonical fields."""
    cdef Py_ssize_t length, stop
    if key[pos] != LABEL_TAG:
        return False
    pos += 1
    length = length_at(key, &pos, size)
    if length < 1:
        return False
    stop = pos + length
    span.at = pos
    if key[pos] != NAME_TAG:
        return False
    pos += 1
    span.name_size = length_at(key, &pos, stop)
    if span.name_size < 1:
        return False
    span.name = pos
    pos += span.name_size
    if pos >= stop or key[pos] != VALUE_TAG:
        return False
    pos += 1
    span.value_size = length_at(key, &pos, stop)
    if span.value_size < 1 or pos + span.value_size != stop:
        return False
    span.value = pos
    return True


cdef inline Py_ssize_t spans_of(const unsigned char *key, Py_ssize_t size, Span *spans) noexcept:
    """Locate the labels of a key in ``spans`` (room for SPANS_MAX) and return their number.

    Return -1 unless the key consists of canonical label fields: name, then value, neither empty,
    lengths below 2**14.
    """
    cdef Py_ssize_t pos = 0, count = 0
    while pos < size:
        if count == SPANS_MAX or not span_at(key, pos, size, &spans[count]):
            return -1
        pos = spans[count].value + spans[count].value_size
        count += 1
    return count


cdef inline bint is_ascii(const unsigned char *text, Py_ssize_t size) noexcept:
    cdef uint64_t word, seen = 0
    while size >= 8:
        memcpy(&word, text, 8)
        seen |= word
        text += 8
        size -= 8
    word = 0
    memcpy(&word, text, <size_t>size)
    return not (seen | word) & <uint64_t>0x8080808080808080


cdef inline bint is_name(const unsigned char *key, const Span *span) noexcept:
    """Return whether the label is the metric's name."""
    return span.name_size == NAME_BYTES and not memcmp(key + span.name, "__name__", NAME_BYTES)


cdef inline int compared(
    const unsigned char *key, const Span *one, const Span *other
) noexcept:
    """Compare two names as memcmp does."""
    cdef Py_ssize_t least = min(one.name_size, other.name_size)
    cdef int found = memcmp(key + one.name, key + other.name, <size_t>least)
    if found:
        return found
    return (one.name_size > other.name_size) - (one.name_size < other.name_size)


cdef inline bint are_valid(const unsigned char *key, const Span *spans, Py_ssize_t count) except -1:
    """Return whether the labels are valid: ``__name__`` present, names unique, all UTF-8."""
    cdef Py_ssize_t at, before, top = 0
    cdef bint is_named = False
    cdef const Span *span
    for at in range(count):
        span = &spans[at]
        is_named = is_named or is_name(key, span)
        if at and compared(key, span, &spans[top]) > 0:
            top = at
        else:
            for before in range(at):
                if not compared(key, span, &spans[before]):
                    return False
        if not (
            is_ascii(key + span.name, span.name_size)
            and is_ascii(key + span.value, span.value_size)
        ):
            try:
                PyUnicode_DecodeUTF8(<const char *>key + span.name, span.name_size, NULL)
                PyUnicode_DecodeUTF8(<const char *>key + span.value, span.value_size, NULL)
            except UnicodeDecodeError:
                return False
    return is_named


cdef inline bint are_as_before(
    const unsigned char *key, const Span *spans, Py_ssize_t count,
    const unsigned char *valid, const Span *before, const unsigned char *repeated,
) noexcept:
    """Return whether labels that are not ``repeated`` have the names of valid ones, and ASCII."""
    cdef Py_ssize_t at
    for at in range(count):
        if not repeated[at] and (
            spans[at].name_size != before[at].name_size
            or memcmp(key + spans[at].name, valid + before[at].name, <size_t>spans[at].name_size)
            or not is_ascii(key + spans[at].value, spans[at].value_size)
        ):
            return False
    return True
