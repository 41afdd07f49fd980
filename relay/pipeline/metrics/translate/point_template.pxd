from relay.codec.remote_write.label_parser cimport SeriesLabels
from relay.codec.remote_write.label_spans cimport SPANS_MAX, Span


cdef class _Template:
    # Labels that become attributes, for series with the same names in the same order.
    cdef bytes names  # as they stand in a key, each behind its size
    cdef object labels
    cdef Py_ssize_t *places
    cdef Py_ssize_t count


cdef class PointTemplates:
    cdef dict templates
    cdef _Template last
    cdef bint keeps_target_labels
    # The prefix that was written last, the number of its series, and where its attributes begin.
    cdef bytes latest
    cdef _Template latest_template
    cdef unsigned long long latest_number
    cdef Py_ssize_t latest_starts[SPANS_MAX + 1]

    cpdef bytes prefix(self, SeriesLabels labels, promoted)
    cdef bytes written(
        self, const unsigned char *key, const Span *spans, _Template template,
        const unsigned char *repeated
    )
    cdef _Template find(self, bytes names, SeriesLabels labels)
