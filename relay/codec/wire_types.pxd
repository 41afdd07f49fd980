# Wire types of protobuf (protobuf.dev, "Encoding"); groups (3, 4) are refused.
cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5
