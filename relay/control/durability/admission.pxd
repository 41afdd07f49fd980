# Types that admission.py is compiled with: every request passes through it.
cimport cython


cdef class Admission:
    cdef object _signal
    cdef object _reconciler
    cdef object _journal
    cdef object _replay
    cdef public long long _memory_bytes_max
    cdef object _queued
    cdef object _on_accepted
    cdef object _tick
    cdef object _turns
    cdef long long _open_bytes
    cdef long long _unsampled_bytes
    cdef long long _measured_version
    cdef long long _measured_grown
    cdef public bint stopping
    cdef long long _unkept
    cdef object _declined

    cpdef accept_at_once(self, request)
    cpdef measure(self)
    cdef long long _grown_bytes(self) except -1

    @cython.locals(part=cython.longlong, grown=cython.longlong, used=cython.longlong)
    cdef _check(self, long long size)
    cdef bint _was_declined(self, bytes raw) except -1


cdef _accepted(taken, dropped, examples)
