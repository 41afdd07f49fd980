# Types that watermark.py is compiled with: every request and every batch holds and releases.
cdef class OffsetTracker:
    cdef long long _next
    cdef long long _low
    cdef long long _undelivered
    cdef readonly dict _held
    cdef readonly dict _waiting
    cdef long long _holds
    cdef long long _version
    cdef readonly dict _ties

    cpdef Py_ssize_t begin(self) except -1
    cpdef hold(self, long long position, long long times=*)
    cdef _hold(self, long long position, long long times)
    cpdef release(self, long long position)
