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


cdef inline tuple others_of(Series series):
    return () if series.uncommon is None else series.uncommon.others
