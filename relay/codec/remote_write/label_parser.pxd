# What the labels of a new series look like to those who read them on raw memory.

cdef enum:
    SPANS_MAX = 128  # labels of a key that is read on raw memory; of more it is read with care


cdef struct Span:
    # One label of a key: where its message begins, and its two texts.
    Py_ssize_t at
    Py_ssize_t name
    Py_ssize_t name_size
    Py_ssize_t value
    Py_ssize_t value_size


cdef Py_ssize_t spans_of(const unsigned char *key, Py_ssize_t size, Span *spans) noexcept


cdef class SeriesLabels:
    cdef readonly bytes key  # label fields alone
    cdef object known
    cdef dict all  # of the labels, once somebody wanted more than a few

    cdef dict whole(self)
    cdef str text(self, str name)
    cpdef get(self, str name, default=*)
    cpdef values_of(self, tuple names)
