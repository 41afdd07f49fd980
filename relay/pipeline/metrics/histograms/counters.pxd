# Types that counters.py is compiled with.
cimport cython


cdef class Outcomes:
    cdef public dict by_name
    cdef public Py_ssize_t points
    cdef public Py_ssize_t sets
    cdef public Py_ssize_t waiting

    @cython.locals(before=Py_ssize_t)
    cpdef count(self, str outcome, Py_ssize_t samples)


cdef class FamilyEpoch:
    cdef public Py_ssize_t number
