# Types that results.py is compiled with.
from relay.pipeline.routing.match_set cimport SinkCounter


cdef class RecordsTaken:
    cdef public long long request
    cdef public object taken
    cdef public list sealed
    cdef public bint has_effect
    cdef public dict dropped
    cdef public list examples


cdef class RequestCounts:
    cdef public Py_ssize_t received
    cdef public Py_ssize_t no_tenant
    cdef public Py_ssize_t oversized
    cdef public Py_ssize_t unmatched
    cdef public list resources
    cdef public list plans
    cdef public list sources
    cdef public str example


cpdef count_taken(
    object source, Py_ssize_t count, Py_ssize_t refused=*, Py_ssize_t unreadable=*
)
