# Types that slow_path.py is compiled with: every new series is counted.
from relay.pipeline.batching.transaction cimport BatchTransaction


cdef long long SLOW_PATH_PAUSE_EVERY

cpdef count_slow_path_entry(BatchTransaction transaction)
