from relay.codec.otlp.envelope cimport Envelope


cpdef Py_ssize_t without_severity(
    Envelope envelope, Py_ssize_t first, Py_ssize_t stop, pause
) except -1
