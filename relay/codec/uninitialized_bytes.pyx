"""Let a decoder write into a new bytes object without an intermediate copy."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory


def fresh_bytes(Py_ssize_t size, write not None):
    """Return bytes of ``size`` that ``write`` fills; it must return the number of bytes written.

    ``write`` must not keep the view it is given. Errors of ``write`` are passed on.
    """
    # No other reference exists while it is written.
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    with PyMemoryView_FromMemory(PyBytes_AS_STRING(result), size, PyBUF_WRITE) as view:
        written = write(view)
    assert written == size, (written, size)
    return result
