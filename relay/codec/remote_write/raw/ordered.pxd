from relay.codec.otlp.point_buffer cimport Point
from relay.codec.remote_write.raw.label_table cimport LabelTable


cdef class OrderedBatch:
    cdef Point *points
    cdef Py_ssize_t count
    cdef LabelTable table
    cdef readonly list metadata
    cdef bint has_riders
    cdef Point *own  # memory that the batch frees, or NULL
    cdef list kept
    cdef object point_buffer
