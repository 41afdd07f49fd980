# Types that flush_schedule.py is compiled with: every request asks for what was armed.
cimport cython

from relay.codec.otlp.batch cimport OpenBatch


cdef class FlushSchedule:
    cdef readonly list _heap
    cdef readonly long long armed
    cdef Py_ssize_t _lone_exemplars

    cpdef arm(self, OpenBatch batch, double due)

    @cython.locals(batch=OpenBatch)
    cpdef next_due(self)
