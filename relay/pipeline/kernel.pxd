# What the loops of both versions of remote write share.
from libc.stdint cimport uint64_t

from relay.pipeline.intake cimport Intake
from relay.pipeline.series cimport Series


cdef bytes stamp_of(uint64_t time_ns)
cdef int append_points(
    Series series, uint64_t time_ns, uint64_t value, Intake intake, long long request
) except -1
