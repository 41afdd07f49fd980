# cython: boundscheck=False, wraparound=False, cdivision=True
"""The metrics of all scopes, each once: an open hash table without keys of its own.

A scraped series has a group to itself more often than not. A dictionary would hold 130 bytes for
each, most of it for a key of what the group has itself.

* An identity is hashed and encoded once for many groups: a few are known by their address.
* Probing is linear, and the table at most two thirds full; removing closes the gap.
* With more than ``idle_max`` groups, each new one evicts those among a few that nothing else refers
  to: their count of references tells. The cost is amortised, so no call is long. Where all are in
  use, as while series are new, it looks at fewer: each look waits for memory.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT, Py_XDECREF
from libc.stdint cimport uint64_t, uintptr_t

from relay.codec.otlp.groups cimport (
    MetricGroup, ResourceGroup, ScopeGroup, crc_behind, crc_shift,
)
from relay.codec.prefetch cimport prefetch

cdef enum:
    FIRST_SLOTS = 64
    LOOKS_MAX = 4  # groups that are looked at with each new one once there are many,
    LOOKS_MIN = 1  # and where the one before has found none idle
    STEPS_MAX = 64  # slots that are passed meanwhile


cdef class GroupTable:
    """Find or make the group of a metric in a scope; keep it as long as anything refers to it."""

    def __init__(self, Py_ssize_t idle_max):
        self.idle_max = idle_max
        self.looks = LOOKS_MAX
        self.no_scope = ScopeGroup(ResourceGroup(()), "")

    def __dealloc__(self):
        cdef size_t at
        if self.slots != NULL:
            for at in range(self.mask + 1):
                if self.slots[at].group != NULL:
                    Py_DECREF(<object>self.slots[at].group)
            PyMem_Free(self.slots)
        for at in range(KNOWN_IDENTITIES):
            Py_XDECREF(<PyObject *>self.known[at].identity)
            Py_XDECREF(<PyObject *>self.known[at].model)

    cpdef MetricGroup find(self, ScopeGroup scope, identity):
        """Return the group of this scope with an equal identity; make it if there is none."""
        cdef Known *known = self.known_of(identity)
        cdef uint64_t mark = mark_of(scope, known.hash)
        cdef MetricGroup group, model
        cdef size_t at
        if self.slots != NULL:
            at = mark & self.mask
            while self.slots[at].group != NULL:
                if self.slots[at].mark == mark:
                    group = <MetricGroup>self.slots[at].group
                    if group.scope is scope and (
                        group.identity is identity or group.identity == identity
                    ):
                        return group
                at = (at + 1) & self.mask
        model = <MetricGroup>known.model
        group = MetricGroup.__new__(MetricGroup)
        group.scope = scope
        group.identity = identity
        group.head = model.head
        group.data_tag = model.data_tag
        group.data_tail = model.data_tail
        group.shard_key = crc_behind(scope.resource.shard_key, model.shard_key, known.shift)
        if self.count >= self.idle_max:
            self.forget()
        if self.slots == NULL or <size_t>(self.count + 1) * 3 > (self.mask + 1) * 2:
            self.resize((self.mask + 1) * 2 if self.slots != NULL else FIRST_SLOTS)
        Py_INCREF(group)
        self.put(mark, <void *>group)
        self.count += 1
        return group

    cpdef fetch(self, ScopeGroup scope, identity):
        """Bring what :meth:`find` reads next into the processor's caches."""
        cdef Known *known = self.known_of(identity)
        if self.slots != NULL:
            prefetch(&self.slots[mark_of(scope, known.hash) & self.mask])

    cdef Known *known_of(self, identity) except NULL:
        """Return the hash of an identity, and a group that has it."""
        cdef uint64_t place = <uint64_t><uintptr_t><void *>identity * <uint64_t>0x9E3779B97F4A7C15
        cdef Known *known = &self.known[place >> (64 - KNOWN_BITS)]
        cdef Known *beside = &self.known[(place >> (64 - KNOWN_BITS)) ^ 1]
        cdef PyObject *before
        cdef Py_hash_t found
        if known.identity != <void *>identity:
            if beside.identity == <void *>identity:
                return beside
            if known.identity != NULL and beside.identity == NULL:
                known = beside
            found = PyObject_Hash(identity)
            model = MetricGroup(self.no_scope, identity)
            before = <PyObject *>known.identity
            known.identity = <void *>identity
            Py_INCREF(identity)
            Py_XDECREF(before)
            before = <PyObject *>known.model
            known.model = <void *>model
            Py_INCREF(model)
            Py_XDECREF(before)
            known.hash = found
            known.shift = crc_shift(len(identity.name.encode()))
        return known

    cdef int resize(self, size_t size) except -1:
        cdef Slot *before = self.slots
        cdef size_t at, slots = self.mask + 1
        cdef void *memory = PyMem_Calloc(size, sizeof(Slot))
        if memory == NULL:
            raise MemoryError
        self.slots = <Slot *>memory
        self.mask = size - 1
        self.hand = 0
        if before != NULL:
            for at in range(slots):
                if before[at].group != NULL:
                    self.put(before[at].mark, before[at].group)
            PyMem_Free(before)
        return 0

    cdef void put(self, uint64_t mark, void *group) noexcept:
        """Fill the first free slot of a mark."""
        cdef size_t at = mark & self.mask
        while self.slots[at].group != NULL:
            at = (at + 1) & self.mask
        self.slots[at].mark = mark
        self.slots[at].group = group

    cdef void forget(self) noexcept:
        """Evict idle groups among the next ones."""
        cdef int looks = self.looks, steps = STEPS_MAX
        cdef void *group
        self.looks = LOOKS_MIN
        while looks and steps:
            steps -= 1
            group = self.slots[self.hand].group
            if group == NULL:
                self.hand = (self.hand + 1) & self.mask
                continue
            looks -= 1
            if Py_REFCNT(<object>group) == 1:
                # Another one may close the gap: it is looked at next.
                self.remove(self.hand)
                Py_DECREF(<object>group)
                self.looks = LOOKS_MAX
            else:
                self.hand = (self.hand + 1) & self.mask
        # The next ones are in no cache: they are needed with the next group.
        for steps in range(self.looks):
            group = self.slots[(self.hand + steps) & self.mask].group
            if group != NULL:
                prefetch(group)
        prefetch(&self.slots[(self.hand + 2 * LOOKS_MAX) & self.mask])

    cdef void remove(self, size_t at) noexcept:
        """Empty a slot, and move those behind it that may stand before."""
        cdef size_t free = at, home
        while True:
            at = (at + 1) & self.mask
            if self.slots[at].group == NULL:
                break
            home = self.slots[at].mark & self.mask
            # It stays where its own place is behind the free slot, up to here, cyclically.
            if (at - home) & self.mask >= (at - free) & self.mask:
                self.slots[free] = self.slots[at]
                free = at
        self.slots[free].group = NULL
        self.count -= 1

    def __len__(self):
        return self.count

    def __repr__(self):
        return f"<GroupTable {self.count}>"


cdef inline uint64_t mark_of(ScopeGroup scope, Py_hash_t identity) noexcept:
    cdef uint64_t mark = (<uint64_t><uintptr_t><void *>scope >> 4) * <uint64_t>0x9E3779B97F4A7C15
    mark = (mark ^ <uint64_t>identity) * <uint64_t>0xFF51AFD7ED558CCD
    return mark ^ (mark >> 32)
