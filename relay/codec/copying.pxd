# Copies of texts whose sizes are known only when they are copied, and mostly small.
cdef extern from *:
    """
    #include <string.h>
    /* Two copies of a fixed size, which may overlap, are loads and stores without a call. */
    static inline unsigned char *relay_put_bytes(
        unsigned char *out, const char *data, Py_ssize_t size
    ) {
        unsigned char *end = out + size;
        if (size > 64) {
            memcpy(out, data, (size_t)size);
        } else if (size > 32) {
            memcpy(out, data, 16);
            memcpy(out + 16, data + 16, 16);
            memcpy(end - 32, data + size - 32, 16);
            memcpy(end - 16, data + size - 16, 16);
        } else if (size >= 16) {
            memcpy(out, data, 16);
            memcpy(end - 16, data + size - 16, 16);
        } else if (size >= 8) {
            memcpy(out, data, 8);
            memcpy(end - 8, data + size - 8, 8);
        } else if (size >= 4) {
            memcpy(out, data, 4);
            memcpy(end - 4, data + size - 4, 4);
        } else if (size) {
            out[0] = (unsigned char)data[0];
            out[size >> 1] = (unsigned char)data[size >> 1];
            end[-1] = (unsigned char)data[size - 1];
        }
        return end;
    }
    """
    # Copy and return the position behind the copy.
    unsigned char *put_bytes "relay_put_bytes" (
        unsigned char *out, const char *data, Py_ssize_t size
    ) noexcept nogil
