# Types that usual_head.py is compiled with: every request has one.
cdef class UsualHead:
    cdef readonly str method
    cdef readonly str path
    cdef readonly object headers
    cdef readonly bint closes
    cdef public object facts
    cdef public bytes front
    cdef public bytes back
