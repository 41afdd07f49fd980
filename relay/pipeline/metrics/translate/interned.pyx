"""Interned values by key, of which only those are forgotten that nothing else refers to.

A value that only this table has is found by its count of references: with a million groups each new
one looks at some, and taking them out of the table to see whether they live costs more than making
a group.
"""

from collections import deque

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.ref cimport Py_REFCNT

LOOKS_MAX = 4
"""Values that are checked with each new one once there are many."""


cdef class Interned:
    """Keep values for at least as long as anything else refers to them.

    With more than ``idle_max`` of them, each new one evicts those without other references among
    :data:`LOOKS_MAX`: the cost is amortised, so no call is long.
    """

    def __init__(self, Py_ssize_t idle_max):
        self.by_key = {}
        self.idle_max = idle_max
        self.order = deque()

    def __class_getitem__(cls, parameters):
        return cls

    cpdef add(self, key, value):
        """Keep a value whose key is new; return it."""
        if len(self.by_key) >= self.idle_max:
            self.forget()
        self.by_key[key] = value
        self.order.append(key)
        return value

    cdef int forget(self) except -1:
        """Evict idle values among the oldest ones."""
        cdef PyObject *value
        for _ in range(min(LOOKS_MAX, len(self.order))):
            key = self.order.popleft()
            value = <PyObject *>PyDict_GetItem(self.by_key, key)
            assert value != NULL, "every key in the order has a value"
            if Py_REFCNT(<object>value) == 1:
                del self.by_key[key]
            else:
                self.order.append(key)
        return 0

    def __repr__(self):
        return f"<Interned {len(self.by_key)}>"
