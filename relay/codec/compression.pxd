# Types that compression.py is compiled with: every body is decompressed by it.
cdef bint _starts_zstd(bytes body, Py_ssize_t pos) except -1
cdef bytes _decompress_snappy(bytes body, Py_ssize_t bytes_max)
cdef Py_ssize_t _claimed_by_snappy(bytes body) except -1
