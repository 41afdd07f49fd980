# Schema of the labels of a series key, for code that reads raw memory.
cimport cython
from cpython.object cimport PyObject

from relay.codec.remote_write.label_spans cimport Span

cdef enum:
    WANTED_MAX = 8  # labels looked up at once


cdef LabelSchema schema_of(const unsigned char *key, const Span *spans, Py_ssize_t count)


# Returned spans stay as they are until other labels are read.
cdef const Span *spans_of_labels(SeriesLabels labels, Span *room, Py_ssize_t *count) noexcept


# Stays as it is until other labels are read.
cdef const unsigned char *repeated_labels(
    SeriesLabels labels, unsigned long long *number
) noexcept


@cython.final
cdef class LabelSchema:
    cdef bytes names  # each behind its size
    cdef Py_ssize_t name_at  # the index of __name__
    cdef PyObject *asked[2]  # the names that ``places`` are of
    cdef Py_ssize_t places[2][WANTED_MAX]

    cdef Py_ssize_t *places_of(self, tuple names, Py_ssize_t slot) except NULL


cdef class SeriesLabels:
    cdef readonly bytes key  # label fields alone
    cdef LabelSchema schema  # None where it is not known
    cdef object known
    cdef dict all  # all labels as a dict, once requested

    cdef dict whole(self)
    cdef str text(self, str name)
    cpdef get(self, str name, default=*)
    cpdef str metric_name(self)
    cdef tuple values_beside(self, tuple names)
    cpdef tuple values_of(self, tuple names)


cdef class LabelParser:
    cdef Py_ssize_t labels_max
    cdef Py_ssize_t bytes_max
    cdef object known

    cpdef SeriesLabels read(self, bytes key)
    cdef SeriesLabels read_validating(self, bytes key)
