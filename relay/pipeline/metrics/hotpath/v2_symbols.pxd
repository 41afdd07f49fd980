# The strings of a request of remote write 2.0: what its loop knows of them.


cdef enum:
    NONE = -1


cdef struct Symbol:
    const unsigned char *data
    Py_ssize_t size
    # Cached encoding of the label with this text as value: number of the label's name (NONE: not
    # cached) and position of the encoded field.
    Py_ssize_t label
    Py_ssize_t field_at
    Py_ssize_t field_size
    # Metadata bytes of the last series with this name; NULL if there are none.
    const unsigned char *metadata
    Py_ssize_t metadata_size
    void *declared  # what was made of it; the table owns it


cdef inline Py_ssize_t short_varint(
    const unsigned char **at, const unsigned char *end
) noexcept:
    """Read a number below 2**28 in at most four bytes, and step over it; NONE for others."""
    cdef const unsigned char *p = at[0]
    cdef Py_ssize_t value = 0
    cdef int shift = 0
    if p < end and p[0] < 128:
        at[0] = p + 1
        return p[0]
    while p < end and shift < 28:
        value |= <Py_ssize_t>(p[0] & 0x7F) << shift
        if p[0] < 128:
            at[0] = p + 1
            return value
        p += 1
        shift += 7
    return NONE


cdef class SymbolTable:
    cdef Symbol *symbols
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef Py_ssize_t name  # the number of "__name__"
    cdef unsigned char *fields  # labels that are written out
    cdef Py_ssize_t fields_size
    cdef Py_ssize_t fields_capacity
    cdef object careful  # the same for the careful way, once it is needed
    cdef list declarations

    cdef int add(self, const unsigned char *data, Py_ssize_t size) except -1
    cdef bint scan(
        self, const unsigned char *at, const unsigned char *end, object pace
    ) except -1
    cdef const unsigned char *field(
        self, Py_ssize_t of_label, Py_ssize_t of_text, Py_ssize_t *size
    ) noexcept
    cdef bint write_field(self, Py_ssize_t of_label, Py_ssize_t of_text) noexcept
    cdef bint is_same(
        self, const unsigned char *at, const unsigned char *end, bytes series, Py_ssize_t *name
    ) noexcept
    cdef bytes key(
        self, const unsigned char *start, const unsigned char *end, Py_ssize_t *name
    )
    cdef bint is_news(
        self, Py_ssize_t name, const unsigned char *metadata, Py_ssize_t size
    ) noexcept
    cdef int declare(self, Py_ssize_t name, object declared) except -1
    cdef object declared(self, Py_ssize_t name)
    cdef bytes bytes_at(self, Py_ssize_t number)
    cdef object for_care(self, object pace)
