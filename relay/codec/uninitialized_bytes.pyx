"""Bytes that a decoder writes itself: to copy them out of a buffer costs half as much again."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory


def fresh_bytes(Py_ssize_t size, write not None):
    """Make bytes of that size; ``write`` fills all of them and returns how many it has filled.

    The view that it is given must not be used afterwards. Raises what ``write`` raises.
    """
    # Nobody else has the object while it is written.
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    with PyMemoryView_FromMemory(PyBytes_AS_STRING(result), size, PyBUF_WRITE) as view:
        written = write(view)
    assert written == size, (written, size)
    return result
