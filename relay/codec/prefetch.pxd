cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define RELAY_PREFETCH(address) __builtin_prefetch(address)
    #else
    #define RELAY_PREFETCH(address) ((void)(address))
    #endif
    """
    void prefetch "RELAY_PREFETCH" (const void *address) noexcept nogil


cdef enum:
    LINE = 64  # bytes of a cache line
    HEADER_BYTES = 33  # of a bytes object, with the zero at its end


cdef inline void prefetch_lines(char *line, Py_ssize_t size) noexcept:
    """Prefetch the lines of ``size`` bytes."""
    cdef char *end = line + size
    while line < end:
        prefetch(line)
        line += LINE
    prefetch(end)
