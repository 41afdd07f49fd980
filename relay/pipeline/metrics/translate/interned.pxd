cdef class Interned:
    cdef readonly dict by_key
    cdef Py_ssize_t idle_max
    cdef object order  # a deque of keys

    cpdef add(self, key, value)
    cdef int forget(self) except -1
