# cython: boundscheck=False, wraparound=False, cdivision=True
"""Hash index of all series of an origin: an open table without keys of its own.

* A slot is one word: the address of a series, and 16 bits of its key's hash above. The series has
  the key, and its bytes are compared. A dictionary would need the key as an object to
  find it, and more than twice the memory.
* No call takes long: the slots are split into shards, and one shard grows at a time, by a quarter.
  The home of a series is a share of the shard that its 16 bits tell, so that a shard grows in one
  pass over its slots, and no key is read.
* Probing is linear, and a shard grows where it is four fifths full; removing closes the gap.
* Senders choose the bytes of keys, but cannot choose keys that meet: see :func:`key_hash`.
* Where series arrive unordered, none of them is in the processor's caches. So the next series of
  the body are hashed ahead of their turn, and their memory is prefetched.
"""

from os import urandom

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy

from relay.pipeline.metrics.series.series cimport Series
from relay.codec.remote_write.common_sample cimport SERIES_TAG, split
from relay.codec.prefetch cimport HEADER_BYTES, LINE, prefetch, prefetch_lines

cdef extern from *:
    ctypedef unsigned long long uint128_t "unsigned __int128"

cdef enum:
    BLOCK_WORDS = 64
    FIRST_SLOTS = 8
    PART_STEP = 64
    TAG_SHIFT = 48  # addresses of user space are shorter
    FETCH_SERIES = 5  # places ahead
    FETCH_KEY = 2

cdef uint64_t PRIME = (<uint64_t>1 << 61) - 1
cdef uint64_t PART_BITS = (<uint64_t>1 << 44) - 1
cdef uint64_t ADDRESS = (<uint64_t>1 << TAG_SHIFT) - 1

cdef uint64_t secret[BLOCK_WORDS]
cdef uint64_t secret_point, secret_factor, secret_offset


cdef choose_secrets():
    """Choose the secrets of the hash, for as long as the process lives."""
    global secret_point, secret_factor, secret_offset
    cdef uint64_t others[3]
    cdef bytes chosen = urandom(sizeof(secret) + sizeof(others))
    memcpy(secret, PyBytes_AS_STRING(chosen), sizeof(secret))
    memcpy(others, PyBytes_AS_STRING(chosen) + sizeof(secret), sizeof(others))
    secret_point = others[0] % PRIME
    secret_factor = others[1] % (PRIME - 1) + 1
    secret_offset = others[2] % PRIME


choose_secrets()

PARTS = PART_STEP
"""Parts in which all series are listed; each is some shards."""


cdef inline uint128_t product(const unsigned char *pair, const uint64_t *keys) noexcept:
    cdef uint64_t words[2]
    memcpy(words, pair, 16)
    return <uint128_t>(words[0] + keys[0]) * (words[1] + keys[1])


cdef inline uint64_t times_plus(uint64_t value, uint64_t factor, uint64_t term) noexcept:
    """Return ``value * factor + term`` modulo the prime, up to a multiple of it."""
    cdef uint128_t wide = <uint128_t>value * factor + term
    value = (<uint64_t>wide & PRIME) + <uint64_t>(wide >> 61)
    return (value & PRIME) + (value >> 61)


cdef inline uint64_t mixed(uint64_t value) noexcept:
    """Return another number for each one: the finalizer of SplitMix64 (Steele et al. 2014)."""
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef uint64_t key_hash(const unsigned char *key, Py_ssize_t size) noexcept:
    """Return a 64-bit hash of a key, of which the upper bits count; callers compare the bytes.

    Nobody who does not know the secrets of the process can find keys that collide more often than
    others, because this is a universal hash. NH (Black et al., UMAC, CRYPTO 1999) over blocks of
    512 bytes: two blocks have the same sum of products with a probability of 2**-64 at most,
    whatever their bytes. The size and all the sums, in parts below the prime, are the coefficients
    of a polynomial modulo 2**61 - 1 at a secret point; two of them meet in as many points as they
    have coefficients. A secret factor and offset then make the values of any two keys independent.
    All this is linear: counted keys would have hashes at equal distances, which crowd together with
    some secrets. So the last step, one to one, is not linear.
    """
    cdef uint64_t sum = <uint64_t>size
    cdef uint128_t block, even, odd
    cdef uint64_t last[2]
    cdef int at
    while size:
        even = odd = 0
        at = 0
        while at < BLOCK_WORDS and size >= 32:
            even += product(key, secret + at)
            odd += product(key + 16, secret + at + 2)
            key += 32
            size -= 32
            at += 4
        if at < BLOCK_WORDS and size >= 16:
            even += product(key, secret + at)
            key += 16
            size -= 16
            at += 2
        if at < BLOCK_WORDS and size:  # fewer than 16 bytes
            last[0] = last[1] = 0
            memcpy(last, key, <size_t>size)
            odd += product(<const unsigned char *>last, secret + at)
            size = 0
        block = even + odd
        sum = times_plus(sum, secret_point, <uint64_t>block & PART_BITS)
        sum = times_plus(sum, secret_point, <uint64_t>(block >> 44) & PART_BITS)
        sum = times_plus(sum, secret_point, <uint64_t>(block >> 88))
    sum = times_plus(sum, secret_factor, secret_offset)
    if sum >= PRIME:
        sum -= PRIME
    return mixed(sum)


cpdef uint64_t hash_of(bytes key):
    """Return the hash of a key."""
    return key_hash(<const unsigned char *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))


cdef inline uint64_t tag_of(uint64_t mark) noexcept:
    return (mark >> (64 - SHARD_BITS - 16)) & 0xFFFF


cdef inline size_t home_of(uint64_t tag, size_t size) noexcept:
    return (tag * size) >> 16


cdef class SeriesHashIndex:
    """Series by a hash of their keys; holds a reference to each."""

    def __dealloc__(self):
        cdef Shard *shard
        cdef size_t at
        cdef int number
        for number in range(SHARD_COUNT):
            shard = &self.shards[number]
            for at in range(shard.size):
                if shard.slots[at]:
                    Py_DECREF(<object><PyObject *>(shard.slots[at] & ADDRESS))
            PyMem_Free(shard.slots)

    cdef Series find(self, uint64_t mark, const unsigned char *key, Py_ssize_t size):
        """Return the series with this key, or None."""
        cdef Shard *shard = &self.shards[mark >> (64 - SHARD_BITS)]
        cdef uint64_t tag = tag_of(mark), word
        cdef size_t at
        cdef bytes known
        if not shard.count:
            return None
        at = home_of(tag, shard.size)
        while True:
            word = shard.slots[at]
            if not word:
                return None
            if word >> TAG_SHIFT == tag:
                known = (<Series><void *>(word & ADDRESS)).key
                if PyBytes_GET_SIZE(known) == size and not memcmp(
                    key, PyBytes_AS_STRING(known), <size_t>size
                ):
                    return <Series><void *>(word & ADDRESS)
            at += 1
            if at == shard.size:
                at = 0

    cpdef Series of_key(self, bytes key):
        """Return the series with this key, or None."""
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(key)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(key)
        return self.find(key_hash(data, size), data, size)

    cpdef add(self, uint64_t mark, Series series):
        """Add a series whose key is not there."""
        cdef Shard *shard = &self.shards[mark >> (64 - SHARD_BITS)]
        cdef uint64_t address = <uint64_t><uintptr_t><void *>series
        if address > ADDRESS:
            raise MemoryError(f"an address of more than {TAG_SHIFT} bits")
        if shard.count * 5 >= shard.size * 4 and not resize(
            shard, shard.size + (shard.size >> 2) + FIRST_SLOTS
        ):
            raise MemoryError
        put(shard, tag_of(mark) << TAG_SHIFT | address)
        Py_INCREF(series)
        shard.count += 1

    cpdef remove(self, uint64_t mark, Series series):
        """Remove a series that is there."""
        cdef Shard *shard = &self.shards[mark >> (64 - SHARD_BITS)]
        cdef size_t size = shard.size, at = home_of(tag_of(mark), size), free, home
        cdef uint64_t word = tag_of(mark) << TAG_SHIFT | <uint64_t><uintptr_t><void *>series
        if not shard.count:
            raise KeyError(series)
        while shard.slots[at] != word:
            if not shard.slots[at]:
                raise KeyError(series)
            at = at + 1 if at + 1 < size else 0
        free = at
        while True:
            at = at + 1 if at + 1 < size else 0
            word = shard.slots[at]
            if not word:
                break
            home = home_of(word >> TAG_SHIFT, size)
            # It stays where its own place is behind the free slot, up to here, cyclically.
            if distance(home, at, size) >= distance(free, at, size):
                shard.slots[free] = word
                free = at
        shard.slots[free] = 0
        shard.count -= 1
        if shard.count * 3 < size and size > 8 * FIRST_SLOTS:
            resize(shard, shard.count * 3 // 2)  # without memory for it, the larger one is kept
        Py_DECREF(series)

    cdef const uint64_t *place(self, uint64_t mark) noexcept:
        """Return where the search for a series begins; NULL where there is none."""
        cdef Shard *shard = &self.shards[mark >> (64 - SHARD_BITS)]
        if not shard.count:
            return NULL
        return shard.slots + home_of(tag_of(mark), shard.size)

    cdef void *guess(self, uint64_t mark) noexcept:
        """Return the first series with these bits of the hash, or NULL."""
        cdef Shard *shard = &self.shards[mark >> (64 - SHARD_BITS)]
        cdef uint64_t tag = tag_of(mark), word
        cdef size_t at
        if not shard.count:
            return NULL
        at = home_of(tag, shard.size)
        while True:
            word = shard.slots[at]
            if not word:
                return NULL
            if word >> TAG_SHIFT == tag:
                return <void *>(word & ADDRESS)
            at += 1
            if at == shard.size:
                at = 0

    cpdef list part(self, int number):
        """Return the series of a part: those of every 64th shard from this one on."""
        cdef Shard *shard
        cdef list found = []
        cdef size_t at
        while number < SHARD_COUNT:
            shard = &self.shards[number]
            for at in range(shard.size):
                if shard.slots[at]:
                    found.append(<Series><void *>(shard.slots[at] & ADDRESS))
            number += PART_STEP
        return found

    def __len__(self):
        cdef Py_ssize_t count = 0
        cdef int number
        for number in range(SHARD_COUNT):
            count += self.shards[number].count
        return count

    def __repr__(self):
        return f"<SeriesHashIndex of {len(self)}>"


cdef inline size_t distance(size_t start, size_t end, size_t size) noexcept:
    return end - start if end >= start else end + size - start


cdef inline void put(Shard *shard, uint64_t word) noexcept:
    """Fill the first free slot behind a word's home."""
    cdef size_t at = home_of(word >> TAG_SHIFT, shard.size)
    while shard.slots[at]:
        at += 1
        if at == shard.size:
            at = 0
    shard.slots[at] = word


cdef bint resize(Shard *shard, size_t size) noexcept:
    """Give a shard this number of slots; return whether there was memory for them."""
    cdef uint64_t *before = shard.slots
    cdef size_t slots = shard.size, at
    cdef void *memory = PyMem_Calloc(size, sizeof(uint64_t))
    if memory == NULL:
        return False
    shard.slots = <uint64_t *>memory
    shard.size = <uint32_t>size
    for at in range(slots):
        if before[at]:
            put(shard, before[at])
    PyMem_Free(before)
    return True


cdef void prefetch_ahead(
    PrefetchWindow *scout, const unsigned char *data, Py_ssize_t end, SeriesHashIndex guesses
) noexcept:
    """Prefetch the next series in three steps: slot, object, key.

    Unordered series are in no cache; without this, each would wait for memory six times.
    """
    cdef UpcomingSeries *coming
    cdef const uint64_t *slot
    cdef void *guess
    cdef void *key
    while scout.count < AHEAD and note_next(scout, data, end):
        coming = &scout.coming[(scout.first + scout.count - 1) % AHEAD]
        slot = guesses.place(coming.mark)
        if slot != NULL:
            prefetch(slot)
    if scout.count > FETCH_SERIES:
        coming = &scout.coming[(scout.first + FETCH_SERIES) % AHEAD]
        guess = guesses.guess(coming.mark)
        if guess != NULL:
            prefetch(guess)
            prefetch(<char *>guess + LINE)
    if scout.count > FETCH_KEY:
        coming = &scout.coming[(scout.first + FETCH_KEY) % AHEAD]
        guess = guesses.guess(coming.mark)
        if guess != NULL:
            # A borrowed pointer: counting a reference would read the key, which is in no cache.
            key = <void *>(<Series>guess).key
            prefetch_lines(<char *>key, HEADER_BYTES + coming.key_size)
            prefetch(<void *>(<Series>guess).prefix)


cdef void prefetch_next(
    PrefetchWindow *upcoming, const unsigned char *data, Py_ssize_t pos, Py_ssize_t end,
    SeriesHashIndex index
) noexcept:
    """Note the series at ``pos`` alone, and prefetch its slot: new series come in a row."""
    cdef const uint64_t *slot
    upcoming.first = upcoming.count = 0
    upcoming.pos = pos
    if note_next(upcoming, data, end):
        slot = index.place(upcoming.coming[0].mark)
        if slot != NULL:
            prefetch(slot)


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
