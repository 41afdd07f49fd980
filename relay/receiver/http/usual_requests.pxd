# Types that usual_requests.py is compiled with: every request passes through its connection.
cimport cython

from relay.receiver.http.usual_head cimport UsualHead
from relay.receiver.http.whole_answer cimport WholeAnswer


cdef class UsualRequests:
    cdef readonly object server
    cdef readonly object service
    cdef readonly object at_once
    cdef readonly object at_cut
    cdef readonly object connections
    cdef readonly double idle_s
    cdef readonly object loop
    cdef readonly set open
    cdef object _is_usual
    cdef dict _heads

    cpdef UsualHead head_of(self, bytes text)


cdef class UsualConnection:
    cdef UsualRequests _owner
    cdef object _transport
    cdef object _remote
    cdef readonly bytes _buffer
    cdef UsualHead _head
    cdef UsualHead _before
    cdef Py_ssize_t _body_at
    cdef Py_ssize_t _size
    cdef double _partial_since
    cdef object _arrival_timer
    cdef object _idle_timer
    cdef double _idle_since
    cdef bint _is_writable
    cdef bint _is_next_due
    cdef readonly object task

    @cython.locals(buffer=bytes, at=Py_ssize_t, size=Py_ssize_t)
    cpdef data_received(self, bytes data)

    @cython.locals(buffer=bytes, head_end=Py_ssize_t, head=UsualHead, body_end=Py_ssize_t)
    cdef _next(self)

    @cython.locals(head=UsualHead)
    cdef _take(self, bytes body)

    @cython.locals(owner=UsualRequests)
    cdef bint _serve_at_once(self, UsualHead head, bytes body) except -1

    @cython.locals(
        head=UsualHead, begin=Py_ssize_t, at=Py_ssize_t, most=Py_ssize_t, size=Py_ssize_t,
        digit=cython.int, body_at=Py_ssize_t
    )
    cdef UsualHead _repeated_head(self, bytes buffer)

    @cython.locals(buffer=bytes, at=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t, head=UsualHead)
    cdef UsualHead _read_head(self, Py_ssize_t head_end)
    cdef _give_up(self)
    cdef _await_arrival(self, double left_s)
    cdef _end(self)


cdef _send(WholeAnswer answer, transport, bint closes)
cdef _fail(transport)
