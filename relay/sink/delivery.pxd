# Types that delivery.py is compiled with: each batch is queued, taken, and settled by its answer.
cimport cython

from relay.sink.queue.payload cimport EncodedRequest
from relay.sink.queue.queue cimport SinkQueue
from relay.sink.queue.shard cimport QueueShard
from relay.sink.reporting.ledger cimport SinkLedger


cdef class DeliveryStateMachine:
    cdef object _config
    cdef object _encoders
    cdef object _rng
    cdef object _offsets
    cdef object _log
    cdef bint _closed
    cdef object _pause
    cdef object _size
    cdef object _search
    cdef readonly object bisector
    cdef bint _stalled
    cdef readonly object circuit
    cdef readonly SinkQueue queue
    cdef readonly object _waits
    cdef readonly SinkLedger ledger
    cdef readonly long long restored
    cdef readonly object health
    cdef readonly object forecaster
    cdef readonly long long splits
    cdef readonly object outcomes

    cpdef bint enqueue(self, requests, now) except -1

    @cython.locals(found=QueueShard)
    cpdef next_step(self, Py_ssize_t shard, now)
    cdef _prepare(self, EncodedRequest request, now)
    cpdef on_response(self, EncodedRequest request, verdict, now)

    @cython.locals(shard=QueueShard)
    cpdef give_back(self, EncodedRequest request)
    cpdef expire(self, now)
    cpdef drop(self, items, reason, now)
    cdef _tell_circuit(self, EncodedRequest request, verdict, now)

    @cython.locals(rejected=cython.longlong)
    cdef _settle_delivered(self, EncodedRequest request, verdict, now)

    @cython.locals(shard=QueueShard)
    cdef _settle(self, EncodedRequest request)
    cdef _release(self, item)
    cdef _hold_pieces(self, pieces)
    cdef _note(self, note)
