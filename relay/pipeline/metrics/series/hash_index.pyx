# cython: boundscheck=False, wraparound=False, cdivision=True
"""Hash index of series, for those that arrive in another order than last time.

* A series is found in an array by a 64-bit hash of its key; its key is then compared. A dictionary
  would need the key as an object of its own, and hash it byte by byte.
* Where series arrive unordered, none of them is in the processor's caches. So the next series of
  the body are hashed ahead of their turn, and their memory is prefetched.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy, memset

from relay.pipeline.metrics.series.series cimport Series
from relay.codec.remote_write.common_sample cimport SERIES_TAG, split
from relay.codec.prefetch cimport LINE, prefetch


cdef enum:
    FIRST_SLOTS = 1024
    PROBES = 8
    FETCH_SERIES = 5  # places ahead
    FETCH_KEY = 2


cdef inline uint64_t mix64(uint64_t value) noexcept:
    value = (value ^ (value >> 32)) * <uint64_t>0x9E3779B97F4A7C15
    return value ^ (value >> 29)


cdef uint64_t key_hash(const unsigned char *key, Py_ssize_t size) noexcept:
    """Return a 64-bit hash of a key. Not collision-free: callers must compare the key bytes."""
    # Four independent lanes: with two, this was the largest part of the cost of recognising
    # unordered series.
    cdef uint64_t a = <uint64_t>size, b = 1, c = 2, d = 3
    cdef uint64_t words[4]
    while size >= 32:
        memcpy(words, key, 32)
        a = (a ^ words[0]) * <uint64_t>0xFF51AFD7ED558CCD
        b = (b ^ words[1]) * <uint64_t>0xC4CEB9FE1A85EC53
        c = (c ^ words[2]) * <uint64_t>0x9FB21C651E98DF25
        d = (d ^ words[3]) * <uint64_t>0xD6E8FEB86659FD93
        a ^= a >> 32
        b ^= b >> 32
        c ^= c >> 32
        d ^= d >> 32
        key += 32
        size -= 32
    words[0] = words[1] = words[2] = words[3] = 0
    memcpy(words, key, <size_t>size)
    a = mix64(a ^ words[0]) ^ mix64(b ^ words[1] ^ 1)
    c = mix64(c ^ words[2] ^ 2) ^ mix64(d ^ words[3] ^ 3)
    return mix64(a ^ mix64(c))


cdef class SeriesHashIndex:
    """Series by a hash of their key, for those that are not predicted correctly.

    Only a shortcut: a series that is missing or was displaced is looked up in the table. Holds
    references to series, evicted ones included until their slots are needed: never more than there
    are live ones.
    """

    def __cinit__(self):
        self.resize(FIRST_SLOTS)

    def __dealloc__(self):
        cdef size_t at
        if self.slots == NULL:
            return  # there was no memory for them
        for at in range(self.mask + 1):
            Py_XDECREF(<PyObject *>self.slots[at].series)
        PyMem_Free(self.slots)

    cdef int resize(self, size_t size) except -1:
        """Clear the index; use this number of slots, a power of two."""
        cdef Slot *slots = <Slot *>PyMem_Malloc(size * sizeof(Slot))
        if slots == NULL:
            raise MemoryError
        memset(slots, 0, size * sizeof(Slot))
        self.slots = slots
        self.mask = size - 1
        self.count = 0
        return 0

    cdef Slot *slot(self, uint64_t mark) noexcept:
        """Return the first slot with this hash, or NULL."""
        cdef size_t at
        cdef Slot *slot
        for at in range(PROBES):
            slot = &self.slots[(mark + at) & self.mask]
            if slot.mark == mark and slot.series != NULL:
                return slot
        return NULL

    cdef Series find(self, uint64_t mark, const unsigned char *key, Py_ssize_t size):
        """Return the series with this key, or None."""
        cdef Slot *slot = self.slot(mark)
        cdef bytes known
        if slot != NULL:
            known = (<Series>slot.series).key
            if PyBytes_GET_SIZE(known) == size and not memcmp(
                key, PyBytes_AS_STRING(known), <size_t>size
            ):
                return <Series>slot.series
        return None

    cdef int keep(self, uint64_t mark, Series series) except -1:
        """Add a series under its hash."""
        if self.count * 2 > self.mask:
            self.tidy()
        self.put(mark, series)
        return 0

    cdef void put(self, uint64_t mark, Series series) noexcept:
        cdef size_t at
        cdef Slot *slot
        cdef Slot *chosen = &self.slots[mark & self.mask]
        for at in range(PROBES):
            slot = &self.slots[(mark + at) & self.mask]
            if slot.series == NULL or slot.mark == mark:
                chosen = slot
                break
        cdef PyObject *before = <PyObject *>chosen.series
        if before == NULL:
            self.count += 1
        Py_INCREF(series)
        chosen.mark = mark
        chosen.series = <void *>series
        Py_XDECREF(before)  # last: what that may set off must find no dead series here

    cdef int tidy(self) except -1:
        """Remove evicted series; grow if that does not free enough slots."""
        cdef Slot *slots = self.slots
        cdef size_t size = self.mask + 1, live = 0, at
        for at in range(size):
            live += slots[at].series != NULL and (<Series>slots[at].series).generation >= 0
        self.resize(size * 2 if live * 4 > size else size)
        for at in range(size):
            if slots[at].series != NULL:
                if (<Series>slots[at].series).generation >= 0:
                    self.put(slots[at].mark, <Series>slots[at].series)
                Py_DECREF(<Series>slots[at].series)
        PyMem_Free(slots)
        return 0


cdef void prefetch_ahead(
    PrefetchWindow *scout, const unsigned char *data, Py_ssize_t end, SeriesHashIndex guesses
) noexcept:
    """Prefetch the next series in three steps: slot, object, key.

    Unordered series are in no cache; without this, each would wait for memory six times.
    """
    cdef UpcomingSeries *coming
    cdef Slot *slot
    cdef Series series
    cdef Py_ssize_t at
    while scout.count < AHEAD and note_next(scout, data, end):
        coming = &scout.coming[(scout.first + scout.count - 1) % AHEAD]
        prefetch(&guesses.slots[coming.mark & guesses.mask])
    if scout.count > FETCH_SERIES:
        coming = &scout.coming[(scout.first + FETCH_SERIES) % AHEAD]
        slot = guesses.slot(coming.mark)
        if slot != NULL:
            prefetch(slot.series)
            prefetch(<char *>slot.series + LINE)
    if scout.count > FETCH_KEY:
        coming = &scout.coming[(scout.first + FETCH_KEY) % AHEAD]
        slot = guesses.slot(coming.mark)
        if slot != NULL:
            series = <Series>slot.series
            at = 0
            while at < coming.key_size:
                prefetch(PyBytes_AS_STRING(series.key) + at)
                at += LINE
            if series.prefix is not None:
                prefetch(<const void *>series.prefix)


cdef bint note_next(PrefetchWindow *scout, const unsigned char *data, Py_ssize_t end) noexcept:
    """Note the series at the window's position and step over it; return False for other shapes."""
    cdef Py_ssize_t pos = scout.pos, size
    cdef UpcomingSeries *coming = &scout.coming[(scout.first + scout.count) % AHEAD]
    if pos + 3 > end or data[pos] != SERIES_TAG:
        return False
    size = data[pos + 1]
    pos += 2
    if size > 127:
        if data[pos] > 127:
            return False
        size += (<Py_ssize_t>data[pos] << 7) - 128
        pos += 1
    if size > end - pos:
        return False
    coming.key_size = split(data + pos, size, &coming.time_ns, &coming.value)
    if not coming.key_size:
        return False
    coming.start = pos
    coming.mark = key_hash(data + pos, coming.key_size)
    scout.count += 1
    scout.pos = pos + size
    return True
