# Types that usage.py is compiled with: every request is counted when it comes and when it leaves.
cdef class QueueUsage:
    cdef object _process
    cdef public long long requests
    cdef public long long points
    cdef public long long bytes
    cdef public long long memory_bytes

    cpdef add(self, long long points, long long body_bytes)
    cpdef remove(self, long long points, long long body_bytes)
    cpdef forget(self, long long points, long long body_bytes)
    cpdef buffer(self, long long body_bytes)
