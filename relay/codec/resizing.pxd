# Arrays on the heap that grow.
from cpython.mem cimport PyMem_Realloc


cdef inline void *resized(void *array, Py_ssize_t count, size_t size) except NULL:
    """Return an array with room for ``count`` items of ``size`` bytes, in place of this one."""
    cdef void *moved = PyMem_Realloc(array, <size_t>count * size)
    if moved == NULL:
        raise MemoryError
    return moved
