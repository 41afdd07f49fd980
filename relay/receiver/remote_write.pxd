# Types that remote_write.py is compiled with: every request is served by it.
cimport cython

from relay.receiver.counters cimport IngestCounters
from relay.receiver.http.usual_head cimport UsualHead


cdef class IngestServer:
    cdef object _settings
    cdef object _handler
    cdef long long _bodies_bytes_max
    cdef readonly long long _bodies_bytes
    cdef dict _senders
    cdef object _json_slots
    cdef object _loading
    cdef object _clock
    cdef object _authenticator
    cdef readonly IngestCounters _counters
    cdef object _refusals
    cdef public bint _stopping
    cdef object _no_content
    cdef object _all_taken
    cdef object _idle
    cdef object _listener

    @cython.locals(
        counters=IngestCounters, size=Py_ssize_t, decoded_bytes=Py_ssize_t, began=cython.double
    )
    cpdef serve_at_once(self, UsualHead head, bytes raw, remote)
    cdef str _crowd(self, remote)
    cdef _decoded_inline(self, bytes raw, admitted)
