# The usual shapes of a series of version 1.0, where they stand in a body.
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy


cdef enum:
    SERIES_TAG = 0x0A  # WriteRequest.timeseries
    LABEL_TAG = 0x0A  # TimeSeries.labels
    VALUE_BYTES = 18  # TimeSeries.samples: tag, 16, value's tag and 8 bytes, time's tag and 6
    TIME_BYTES = 9  # the same without the zero value


cdef inline uint64_t usual_time(const unsigned char *at) noexcept:
    """The time, in ns, of six bytes of varint that are ms, as short as they can be; 0 for others.

    Those are the times from 1971 to 2109.
    """
    cdef uint32_t low
    cdef uint64_t bits
    memcpy(&low, at, 4)
    if ~low & <uint32_t>0x80808080U or at[4] < 128 or at[5] > 127 or at[5] == 0:
        return 0
    # Seven bits of each byte, side by side: of two bytes at a time, then of four.
    bits = low & 0x7F7F7F7F
    bits = (bits & 0x007F007F) | (bits & 0x7F007F00) >> 1
    bits = (bits & 0x3FFF) | (bits >> 16) << 14
    return (bits | <uint64_t>(at[4] & 0x7F) << 28 | <uint64_t>at[5] << 35) * 1_000_000


cdef inline uint64_t usual_sample(
    const unsigned char *at, Py_ssize_t size, uint64_t *value
) noexcept:
    """The time, in ns, of what is exactly one sample of a usual shape; 0 for anything else."""
    if size == VALUE_BYTES:
        if at[0] == 0x12 and at[1] == 0x10 and at[2] == 0x09 and at[11] == 0x10:
            memcpy(value, at + 3, 8)
            return usual_time(at + 12)
    elif size == TIME_BYTES and at[0] == 0x12 and at[1] == 0x07 and at[2] == 0x10:
        value[0] = 0
        return usual_time(at + 3)
    return 0


cdef inline Py_ssize_t split(
    const unsigned char *series, Py_ssize_t size, uint64_t *time_ns, uint64_t *value
) noexcept:
    """The size of what stands before a usual sample at the end of a series; 0 where none is there.

    That what stands at the end looks like a sample proves nothing yet. But what stands before it is
    then either exactly label fields, and the sample one, or no series without a fault.
    """
    time_ns[0] = 0
    if size > VALUE_BYTES:
        time_ns[0] = usual_sample(series + size - VALUE_BYTES, VALUE_BYTES, value)
        if time_ns[0]:
            return size - VALUE_BYTES
    if size > TIME_BYTES:
        time_ns[0] = usual_sample(series + size - TIME_BYTES, TIME_BYTES, value)
        if time_ns[0]:
            return size - TIME_BYTES
    return 0
