# Types that slow_path.py is compiled with: every new series is counted.
cimport cython

from relay.pipeline.batching.transaction cimport BatchTransaction


cdef long long SLOW_PATH_PAUSE_EVERY


@cython.locals(entries=Py_ssize_t, next_pause=Py_ssize_t)
cpdef count_slow_path_entry(BatchTransaction transaction)
