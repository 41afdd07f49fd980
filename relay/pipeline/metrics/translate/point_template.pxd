from relay.codec.remote_write.label_parser cimport SeriesLabels


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

    cpdef bytes prefix(self, SeriesLabels labels, promoted)
    cdef _Template find(self, bytes names, SeriesLabels labels)
