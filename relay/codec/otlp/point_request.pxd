from relay.codec.otlp.point_buffer cimport Point, Run


cdef bytes encode_points(
    Point *points, Py_ssize_t count, Py_ssize_t size, Run *runs, Py_ssize_t runs_count
)
