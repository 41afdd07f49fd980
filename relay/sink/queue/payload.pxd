# Types that payload.py is compiled with: each batch becomes one, and every step of it reads it.
cdef class EncodedRequest:
    cdef public bytes body
    cdef public object encoding
    cdef public long long points
    cdef public long long encoded_bytes
    cdef public long long position
    cdef public long long shard
    cdef public double created_at
    cdef public long long attempts
    cdef public long long depth
    cdef public object kind
    cdef public object bisection
    cdef public object part
    cdef public bint was_sent
