# Layout of a series key's labels for code that reads raw memory.

cdef enum:
    SPANS_MAX = 128  # most labels of a key parsed on raw memory; longer keys take the slow path


cdef struct Span:
    # One label of a key: offset of its message, offset and size of name and value.
    Py_ssize_t at
    Py_ssize_t name
    Py_ssize_t name_size
    Py_ssize_t value
    Py_ssize_t value_size


cdef Py_ssize_t spans_of(const unsigned char *key, Py_ssize_t size, Span *spans) noexcept


cdef class SeriesLabels:
    cdef readonly bytes key  # label fields alone
    cdef object known
    cdef dict all  # all labels as a dict, once requested

    cdef dict whole(self)
    cdef str text(self, str name)
    cpdef get(self, str name, default=*)
    cpdef tuple values_of(self, tuple names)


cdef class LabelParser:
    cdef Py_ssize_t labels_max
    cdef Py_ssize_t bytes_max
    cdef object known

    cpdef SeriesLabels read(self, bytes key)
    cdef SeriesLabels read_validating(self, bytes key)
