"""Put Python's small objects into huge pages, once a process has many of them.

A million series are spread over hundreds of MiB, and a request touches some thousand of them: with
pages of 4 KiB nearly every one is a miss of the TLB, which costs twice in a virtual machine, and
what the interpreter needs for the next request is no longer there either. pymalloc takes its memory
in arenas of 1 MiB; here two of them are one huge page.

* The first :data:`ORDINARY_ARENAS` stay as they are, so that a small process keeps its size.
* It is the kernel's choice: where ``transparent_hugepage/enabled`` is ``never``, these are ordinary
  pages. Elsewhere than on Linux nothing changes.
* A chunk is given back to the kernel when both of its arenas are free.
* Called with the interpreter's lock held, as pymalloc itself is.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uintptr_t
from cpython.mem cimport PyMem_RawRealloc


cdef extern from "Python.h":
    ctypedef struct PyObjectArenaAllocator:
        void* ctx
        void* (*alloc)(void* ctx, size_t size)
        void (*free)(void* ctx, void* address, size_t size)

    void PyObject_GetArenaAllocator(PyObjectArenaAllocator* allocator)
    void PyObject_SetArenaAllocator(PyObjectArenaAllocator* allocator)


cdef extern from *:
    """
    #if defined(__linux__)
    #include <stdint.h>
    #include <sys/mman.h>
    #define RELAY_HUGE_PAGES 1

    static void *relay_map(size_t size) {
        void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return found == MAP_FAILED ? NULL : found;
    }

    /* Memory of this size at a multiple of it, or NULL. */
    static void *relay_map_chunk(size_t size) {
        char *wide = relay_map(2 * size), *chunk;
        if (wide == NULL)
            return NULL;
        chunk = (char *)(((uintptr_t)wide + size - 1) & ~(uintptr_t)(size - 1));
        if (chunk > wide)
            munmap(wide, chunk - wide);
        if (chunk < wide + size)
            munmap(chunk + size, wide + size - chunk);
        madvise(chunk, size, MADV_HUGEPAGE); /* refused where the kernel has none: no harm */
        return chunk;
    }

    static void relay_unmap(void *address, size_t size) { munmap(address, size); }
    #else
    #define RELAY_HUGE_PAGES 0
    static void *relay_map_chunk(size_t size) { return NULL; }
    static void relay_unmap(void *address, size_t size) { }
    #endif
    """
    const int RELAY_HUGE_PAGES
    void* relay_map_chunk(size_t size) noexcept nogil
    void relay_unmap(void* address, size_t size) noexcept nogil


cdef size_t CHUNK_BYTES = 2 * 1024 * 1024
cdef size_t ARENA_BYTES = 1024 * 1024

cdef struct Chunk:
    char* base
    bint taken[2]


cdef Chunk* _chunks = NULL
cdef size_t _count = 0, _room = 0
cdef size_t _free_halves = 0
cdef size_t _ordinary_left = 0
cdef PyObjectArenaAllocator _before


ORDINARY_ARENAS = 8
"""Arenas that are taken as before; 1 MiB each, besides those of the start."""


cdef void* _alloc(void* ctx, size_t size) noexcept:
    """Return memory of an arena, NULL where there is none."""
    global _ordinary_left, _free_halves
    cdef Chunk* chunk
    cdef size_t number, half
    if _ordinary_left:
        _ordinary_left -= 1
        return _before.alloc(_before.ctx, size)
    if size != ARENA_BYTES or not (_free_halves or _add_chunk()):
        return _before.alloc(_before.ctx, size)
    # The newest are looked at first: it is there that one is free, unless some were given back.
    for number in range(_count, 0, -1):
        chunk = &_chunks[number - 1]
        for half in range(2):
            if not chunk.taken[half]:
                chunk.taken[half] = True
                _free_halves -= 1
                return chunk.base + half * ARENA_BYTES
    return NULL


cdef bint _add_chunk() noexcept:
    """Map another chunk; return false where that cannot be."""
    global _chunks, _count, _room, _free_halves
    cdef Chunk* grown
    cdef size_t room
    if _count == _room:
        room = 2 * _room or 64
        grown = <Chunk*>PyMem_RawRealloc(_chunks, room * sizeof(Chunk))
        if grown == NULL:
            return False
        _chunks, _room = grown, room
    cdef char* base = <char*>relay_map_chunk(CHUNK_BYTES)
    if base == NULL:
        return False
    _chunks[_count].base = base
    _chunks[_count].taken[0] = _chunks[_count].taken[1] = False
    _count += 1
    _free_halves += 2
    return True


cdef void _free(void* ctx, void* address, size_t size) noexcept:
    """Take back memory of :func:`_alloc`, or of the allocator before."""
    global _count, _free_halves
    cdef char* base = <char*>(<uintptr_t>address & ~<uintptr_t>(CHUNK_BYTES - 1))
    cdef Chunk* chunk
    cdef size_t number
    for number in range(_count):
        chunk = &_chunks[number]
        if chunk.base == base:
            break
    else:
        _before.free(_before.ctx, address, size)
        return
    chunk.taken[<char*>address != base] = False
    _free_halves += 1
    if not chunk.taken[0] and not chunk.taken[1]:
        relay_unmap(base, CHUNK_BYTES)
        _free_halves -= 2
        _count -= 1
        chunk[0] = _chunks[_count]


def use_huge_pages(*, size_t ordinary = ORDINARY_ARENAS):
    """Take further arenas from huge pages; return whether this system has them.

    Only the first call does something. Without pymalloc (``PYTHONMALLOC=malloc``, or free-threaded
    Python) arenas are never asked for.
    """
    global _ordinary_left
    cdef PyObjectArenaAllocator own
    if not RELAY_HUGE_PAGES:
        return False
    if _before.alloc == NULL:
        PyObject_GetArenaAllocator(&_before)
        _ordinary_left = ordinary
        own.ctx, own.alloc, own.free = NULL, _alloc, _free
        PyObject_SetArenaAllocator(&own)
    return True


def chunks():
    """Return how many chunks are mapped, and how many of their arenas are free."""
    return _count, _free_halves
