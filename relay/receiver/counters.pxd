# Types that counters.py is compiled with: every request is counted.
from relay.telemetry.histogram cimport Durations


cdef class IngestCounters:
    cdef readonly dict requests
    cdef readonly dict refused
    cdef readonly long long partial
    cdef public long long compressed_bytes
    cdef public long long decoded_bytes
    cdef public long long in_flight
    cdef readonly Durations durations

    cpdef count(self, answer)
