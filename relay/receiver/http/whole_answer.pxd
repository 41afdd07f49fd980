# Types that whole_answer.py is compiled with: every request is answered by one.
cdef class WholeAnswer:
    cdef readonly object status
    cdef readonly bytes body
    cdef readonly dict headers
    cdef bytes _fields
    cdef bytes _encoded
    cdef long long _second

    cpdef bytes encode(self)
    cpdef bytes encode_last(self)
    cdef bytes _encode(self, long long second, bytes connection)
    cdef bytes _head(self, long long second, bytes connection)
