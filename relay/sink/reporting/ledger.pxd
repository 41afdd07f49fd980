# Types that ledger.py is compiled with: every batch is counted when it comes and when it leaves.
cdef class SinkLedger:
    cdef readonly long long offered
    cdef readonly long long delivered
    cdef readonly object rejected
    cdef readonly long long expired
    cdef readonly object dropped
    cdef readonly long long queued

    cpdef offer(self, long long points)
    cpdef deliver(self, long long points)
    cdef _leave(self, long long points)
