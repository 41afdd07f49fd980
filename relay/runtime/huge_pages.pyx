"""Put Python's small objects into huge pages, once a process has many of them.

A million series are spread over hundreds of MiB, and a request touches some thousand of them: with
pages of 4 KiB nearly every one is a miss of the TLB, which costs twice in a virtual machine, and
what the interpreter needs for the next request is no longer there either. pymalloc takes its memory
in arenas of 1 MiB; here two of them are one huge page.

* :data:`ORDINARY_ARENAS` stay as they are, so that a small process keeps its size; where one is
  freed there is room for another.
* A chunk is unmapped when both of its arenas are free; where one is free, :func:`trim_arenas` gives
  it back. Until then it stays resident: splitting a huge page takes a millisecond.
* Once the first chunk was needed, a thread keeps :data:`SPARES` more ready. It takes no lock: a
  spare is handed on by an atomic exchange. A forked child has no such thread and maps its own.
* All else is called with the interpreter's lock held. An interpreter beside the main one, with a
  lock of its own, would need another lock here.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uintptr_t
from cpython.mem cimport PyMem_RawRealloc

from pathlib import Path


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
    #include <pthread.h>
    #include <semaphore.h>
    #include <signal.h>
    #include <stdint.h>
    #include <sys/mman.h>
    #endif
    #define RELAY_SPARES 4
    #if defined(__linux__) && defined(MADV_HUGEPAGE) && defined(MADV_NOHUGEPAGE)
    #define RELAY_HUGE_PAGES 1

    /* Memory of this size at a multiple of it, or NULL. New kernels place it so themselves. */
    static void *relay_map_chunk(size_t size) {
        const int access = PROT_READ | PROT_WRITE, kind = MAP_PRIVATE | MAP_ANONYMOUS;
        char *chunk = mmap(NULL, size, access, kind, -1, 0), *wide;
        if (chunk != MAP_FAILED && (uintptr_t)chunk % size) {
            munmap(chunk, size);
            wide = mmap(NULL, 2 * size, access, kind, -1, 0);
            chunk = wide;
            if (wide != MAP_FAILED) {
                chunk = (char *)(((uintptr_t)wide + size - 1) & ~(uintptr_t)(size - 1));
                if (chunk > wide)
                    munmap(wide, chunk - wide);
                munmap(chunk + size, wide + size - chunk);
            }
        }
        return chunk == MAP_FAILED ? NULL : chunk;
    }

    static void relay_unmap(void *address, size_t size) { munmap(address, size); }

    static void relay_make_huge(void *chunk, size_t size) { madvise(chunk, size, MADV_HUGEPAGE); }

    /* MADV_COLD splits the page; without it the kernel keeps the whole of it. */
    static void relay_give_back(void *chunk, size_t size, void *half, size_t half_size) {
        madvise(chunk, size, MADV_NOHUGEPAGE);
    #ifdef MADV_COLD
        madvise(half, half_size, MADV_COLD);
    #endif
        madvise(half, half_size, MADV_DONTNEED);
    }

    static void *relay_spares[RELAY_SPARES]; /* NULL: none; taken and filled by different threads */
    static size_t relay_spare_size;
    static sem_t relay_spares_wanted;

    static void *relay_fill_spares(void *nothing) {
        volatile char *chunk;
        size_t at, page;
        for (;;) {
            while (sem_wait(&relay_spares_wanted))
                ;
            for (at = 0; at < RELAY_SPARES; at++) {
                if (__atomic_load_n(&relay_spares[at], __ATOMIC_ACQUIRE) != NULL)
                    continue;
                chunk = relay_map_chunk(relay_spare_size);
                if (chunk == NULL)
                    break;
                relay_make_huge((void *)chunk, relay_spare_size);
                /* One touch is enough where the kernel has a huge page for it. */
                for (page = 0; page < relay_spare_size; page += 4096)
                    chunk[page] = 0;
                __atomic_store_n(&relay_spares[at], (void *)chunk, __ATOMIC_RELEASE);
            }
        }
        return nothing;
    }

    /* Start the thread that fills spares, with all signals left to others. */
    static int relay_start_filling(size_t size) {
        sigset_t all, before;
        pthread_attr_t settings;
        pthread_t thread;
        int failed;
        relay_spare_size = size;
        if (sem_init(&relay_spares_wanted, 0, 0) || pthread_attr_init(&settings))
            return 0;
        pthread_attr_setstacksize(&settings, 128 * 1024);
        pthread_attr_setdetachstate(&settings, PTHREAD_CREATE_DETACHED);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_create(&thread, &settings, relay_fill_spares, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&settings);
        return !failed;
    }

    static void relay_want_spares(void) { sem_post(&relay_spares_wanted); }

    static void *relay_take_spare(void) {
        size_t at;
        void *chunk = NULL;
        for (at = 0; at < RELAY_SPARES && chunk == NULL; at++)
            chunk = __atomic_exchange_n(&relay_spares[at], NULL, __ATOMIC_ACQ_REL);
        return chunk;
    }

    static size_t relay_count_spares(void) {
        size_t at, count = 0;
        for (at = 0; at < RELAY_SPARES; at++)
            count += __atomic_load_n(&relay_spares[at], __ATOMIC_ACQUIRE) != NULL;
        return count;
    }
    #else
    #define RELAY_HUGE_PAGES 0
    static void *relay_map_chunk(size_t size) { (void)size; return NULL; }
    static void relay_unmap(void *address, size_t size) { (void)address; (void)size; }
    static void relay_make_huge(void *chunk, size_t size) { (void)chunk; (void)size; }
    static void relay_give_back(void *chunk, size_t size, void *half, size_t half_size) {
        (void)chunk; (void)size; (void)half; (void)half_size;
    }
    static int relay_start_filling(size_t size) { (void)size; return 0; }
    static void relay_want_spares(void) {}
    static void *relay_take_spare(void) { return NULL; }
    static size_t relay_count_spares(void) { return 0; }
    #endif
    """
    const int RELAY_HUGE_PAGES
    const int RELAY_SPARES
    void* relay_map_chunk(size_t size) noexcept nogil
    void relay_unmap(void* address, size_t size) noexcept nogil
    void relay_make_huge(void* chunk, size_t size) noexcept nogil
    void relay_give_back(void* chunk, size_t size, void* half, size_t half_size) noexcept nogil
    bint relay_start_filling(size_t size) noexcept nogil
    void relay_want_spares() noexcept nogil
    void* relay_take_spare() noexcept nogil
    size_t relay_count_spares() noexcept nogil


cdef size_t CHUNK_BYTES = 2 * 1024 * 1024
cdef size_t ARENA_BYTES = 1024 * 1024

SYSTEM = Path("/sys/kernel/mm/transparent_hugepage")

ORDINARY_ARENAS = 16
"""Arenas that are taken as before; 1 MiB each, besides those of the start."""

TRIMMED_AT_ONCE = 8
"""Arenas that one call of :func:`trim_arenas` gives back."""

SPARES = RELAY_SPARES
"""Chunks that are made before they are needed, once the first one was."""


cdef struct Chunk:
    char* base
    bint taken[2]
    bint is_huge


cdef Chunk* _chunks = NULL
cdef size_t _count = 0, _room = 0
cdef size_t _free_halves = 0
cdef size_t _ordinary_left = 0
cdef bint _was_started = False, _is_filling = False
cdef PyObjectArenaAllocator _before


cdef void* _alloc(void* ctx, size_t size) noexcept:
    """Return memory of an arena, NULL where there is none; stacks of calls come here, too."""
    global _ordinary_left, _free_halves
    cdef Chunk* chunk
    cdef size_t number, half
    if size != ARENA_BYTES:
        return _before.alloc(_before.ctx, size)
    if _ordinary_left and not _free_halves:
        _ordinary_left -= 1
        return _before.alloc(_before.ctx, size)
    if _free_halves or _add_chunk():
        # The newest are looked at first: there one is free, unless others were given back.
        for number in range(_count, 0, -1):
            chunk = &_chunks[number - 1]
            for half in range(2):
                if not chunk.taken[half]:
                    chunk.taken[half] = True
                    _free_halves -= 1
                    if not chunk.is_huge:
                        relay_make_huge(chunk.base, CHUNK_BYTES)
                        chunk.is_huge = True
                    return chunk.base + half * ARENA_BYTES
    return _before.alloc(_before.ctx, size)


cdef bint _add_chunk() noexcept:
    """Take a spare chunk or map one; return false where that cannot be."""
    global _chunks, _count, _room, _free_halves, _was_started, _is_filling
    cdef Chunk* grown
    cdef Chunk* chunk
    cdef size_t room
    if _count == _room:
        room = 2 * _room or 64
        grown = <Chunk*>PyMem_RawRealloc(_chunks, room * sizeof(Chunk))
        if grown == NULL:
            return False
        _chunks, _room = grown, room
    chunk = &_chunks[_count]
    chunk.base = <char*>relay_take_spare()
    if chunk.base == NULL:
        chunk.base = <char*>relay_map_chunk(CHUNK_BYTES)
        if chunk.base == NULL:
            return False
        relay_make_huge(chunk.base, CHUNK_BYTES)
    if not _was_started:
        _was_started = True
        _is_filling = relay_start_filling(CHUNK_BYTES)
    if _is_filling:
        relay_want_spares()
    chunk.is_huge = True
    chunk.taken[0] = chunk.taken[1] = False
    _count += 1
    _free_halves += 2
    return True


cdef void _free(void* ctx, void* address, size_t size) noexcept:
    """Take back memory of :func:`_alloc`, or of the allocator before."""
    global _count, _free_halves, _ordinary_left
    cdef char* base = <char*>(<uintptr_t>address & ~<uintptr_t>(CHUNK_BYTES - 1))
    cdef Chunk* chunk
    cdef size_t number
    for number in range(_count):
        chunk = &_chunks[number]
        if chunk.base == base:
            break
    else:
        _ordinary_left += size == ARENA_BYTES
        _before.free(_before.ctx, address, size)
        return
    chunk.taken[<char*>address != base] = False
    _free_halves += 1
    if not chunk.taken[0] and not chunk.taken[1]:
        relay_unmap(base, CHUNK_BYTES)
        _free_halves -= 2
        _count -= 1
        chunk[0] = _chunks[_count]


def use_huge_pages(*, size_t ordinary = ORDINARY_ARENAS, system = SYSTEM):
    """Take further arenas from huge pages; return whether this system has them, of 2 MiB."""
    return has_huge_pages(system) and use_chunks(ordinary=ordinary)


def use_chunks(*, size_t ordinary = ORDINARY_ARENAS):
    """Take further arenas from chunks, huge pages or not; return whether this system can.

    Only the first call that does something counts. What is not pymalloc's (``PYTHONMALLOC=malloc``,
    free-threaded Python) is where it was.
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


def has_huge_pages(system = SYSTEM):
    """Return whether the kernel gives huge pages of 2 MiB to those that ask for them."""
    try:
        is_off = "[never]" in (system / "enabled").read_text()
        return not is_off and int((system / "hpage_pmd_size").read_text()) == CHUNK_BYTES
    except (OSError, ValueError):  # no such kernel, or a system that hides it
        return False


def trim_arenas(*, size_t most = TRIMMED_AT_ONCE):
    """Give spares back, and free arenas whose other half is in use; return whether there are more.

    Takes 0.9 ms for each arena.
    """
    cdef Chunk* chunk
    cdef void* spare = relay_take_spare()
    cdef size_t number
    while spare != NULL:
        relay_unmap(spare, CHUNK_BYTES)
        spare = relay_take_spare()
    for number in range(_count):
        chunk = &_chunks[number]
        if chunk.is_huge and chunk.taken[0] != chunk.taken[1]:
            if not most:
                return True
            most -= 1
            relay_give_back(
                chunk.base, CHUNK_BYTES, chunk.base + ARENA_BYTES * chunk.taken[0], ARENA_BYTES
            )
            chunk.is_huge = False
    return False


def chunks():
    """Return how many chunks are mapped, and how many of their arenas are free."""
    return _count, _free_halves


def spares():
    """Return how many chunks are mapped that are not yet needed."""
    return relay_count_spares()
