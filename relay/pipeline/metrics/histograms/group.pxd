# Types that group.py is compiled with: the fields and methods that every sample uses.
cimport cython

from relay.pipeline.metrics.histograms.counters cimport FamilyEpoch, Outcomes
from relay.pipeline.batching.emitter cimport Emitter, Stream


cdef class PendingPoint:
    cdef public Family family
    cdef public long long last
    cdef public long long needed_until
    cdef public long long time_ns
    cdef public bytes stamp
    cdef public object origin
    cdef public bint due
    cdef public bint gone
    cdef public long long start_ns
    cdef public tuple exemplars
    cdef public list slots
    cdef public Py_ssize_t taken


cdef class Component:
    cdef public Family family
    cdef public str part
    cdef public str text
    cdef public Py_ssize_t slot
    cdef public bint expected
    cdef public Py_ssize_t missed
    cdef public tuple order

    @cython.locals(family=Family, pending=PendingPoint)
    cpdef take(self, bytes stamp, bytes value, object extra, Emitter emitter)


cdef class Family:
    cdef public object home
    cdef public Outcomes outcomes
    cdef public FamilyEpoch now
    cdef public object fact
    cdef public object key
    cdef public object labels
    cdef public object resource
    cdef public object identity
    cdef public bint is_cumulative
    cdef public bint is_ranged
    cdef public object sources
    cdef public tuple probes
    cdef public Py_ssize_t routed
    cdef public Py_ssize_t translated
    cdef public tuple streams
    cdef public Py_ssize_t epoch
    cdef public dict members
    cdef public Py_ssize_t expected
    cdef public Py_ssize_t needed
    cdef public bint is_steady
    cdef public object layout
    cdef public bint is_laid_out
    cdef public dict sets
    cdef public PendingPoint latest
    cdef public Py_ssize_t leaving
    cdef public tuple counters
    cdef public list recent
    cdef public long long floor_ns
    cdef bytes _digest

    @cython.locals(pending=PendingPoint, time_ns=cython.longlong, slots=list)
    cpdef take(self, Component member, bytes stamp, bytes value, object extra, Emitter emitter)

    @cython.locals(oldest=PendingPoint)
    cpdef settle(self, Emitter emitter, bint at_end=*)

    @cython.locals(slots=list, member=Component)
    cpdef bint _complete(self, PendingPoint pending, bint at_end=*)

    @cython.locals(outcomes=Outcomes, first=cython.longlong)
    cpdef send(self, PendingPoint done, Emitter emitter)

    @cython.locals(
        members=Py_ssize_t, stop=Py_ssize_t, handlers=tuple, stamp=bytes, own_stamp=bytes,
        value=bytes, slots=list, member=Component, time_ns=cython.longlong,
    )
    cpdef Py_ssize_t take_run(self, list deferred, Py_ssize_t at, Emitter emitter)

    @cython.locals(stream=Stream, body=bytes)
    cpdef bint _send_usual(
        self, list slots, long long time_ns, long long start_ns, object origin, Emitter emitter
    )

    @cython.locals(outcomes=Outcomes, streams=tuple)
    cpdef tuple _wanted(self, Py_ssize_t samples)

    @cython.locals(recent=list)
    cpdef _remember(self, long long time_ns)


@cython.locals(
    at=Py_ssize_t, taken=Py_ssize_t, handlers=tuple, stamp=bytes, value=bytes, member=Component
)
cpdef take_all(list deferred, Emitter emitter)
