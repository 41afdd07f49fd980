cimport cython


@cython.final
cdef class UncommonFields:
    cdef tuple others  # routes
    cdef object native
    cdef object info_claim
    cdef str fault


@cython.final
cdef class Series:
    # Fields that the decode loop reads for every sample come first, side by side in memory.
    cdef public Series predicted_next
    cdef public bytes key
    cdef public long long generation
    cdef public object match_set
    cdef tuple batches  # the first route, None where there are none
    cdef object group
    cdef bytes prefix
    cdef UncommonFields uncommon  # None: it has none of them
    cdef public tuple handlers
    cdef public object declared
    cdef public object metric_type
    cdef public object types
    cdef public str name
    cdef public tuple dependencies
    cdef public long long resolved_version
    cdef public int dependency_version
    cdef public unsigned short scope
    cdef public unsigned char is_known


cdef enum:
    BLOCK_SERIES = 62


cdef struct Block:
    Block *following
    void *series[BLOCK_SERIES]


@cython.final
cdef class SeriesQueue:
    cdef Block *front
    cdef Block *back
    cdef int begin  # of the series in the front block
    cdef int end  # of those in the back block
    cdef Py_ssize_t count

    cpdef append(self, Series series)
    cpdef Series popleft(self)
    cpdef Series first(self)


cpdef Series new_series(bytes key)
cpdef bint is_faulty(Series series) noexcept
cpdef set_route(Series series, tuple batches, object group, bytes prefix)


cdef inline tuple others_of(Series series):
    return () if series.uncommon is None else series.uncommon.others
