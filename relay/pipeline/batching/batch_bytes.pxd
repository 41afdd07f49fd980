# Bound on the bytes of a batch of OTLP, so that encoding and compressing it never holds the loop.
cdef enum:
    BATCH_BYTES_MAX = 4 << 20  # 10 ms to compress
