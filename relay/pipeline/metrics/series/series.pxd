cdef class Series:
    # Fields that the decode loop reads for every sample come first, side by side in memory.
    cdef public Series predicted_next
    cdef public bytes key
    cdef public long long generation
    cdef public object match_set
    cdef tuple batches  # the first route, None where there are none
    cdef object group
    cdef bytes prefix
    cdef tuple others  # routes
    cdef public tuple handlers
    cdef public long long resolved_version
    cdef public long long dependency_version
    cdef public tuple dependencies
    cdef public object metric_type
    cdef public object types
    cdef public object declared
    cdef public object native
    cdef public str name
    cdef public str fault
    cdef public object info_claim
    cdef public object shard
    cdef public bint is_known
