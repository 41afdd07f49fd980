cdef class Series:
    # What the kernel reads of every sample comes first, side by side in memory.
    cdef public Series next
    cdef public bytes key
    cdef public long long generation
    cdef public object plan
    cdef tuple batches  # the first route, None where there are none
    cdef object group
    cdef bytes prefix
    cdef tuple others  # routes
    cdef public tuple handlers
    cdef public long long resolved
    cdef public long long seen
    cdef public tuple facts
    cdef public object typing
    cdef public object types
    cdef public object declared
    cdef public object native
    cdef public str name
    cdef public str fault
    cdef public object claim
    cdef public object shard
    cdef public bint is_known
