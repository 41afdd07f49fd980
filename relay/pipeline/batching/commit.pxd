# What rounds.py is compiled with: the fields that are looked at of every batch of a round.
cimport cython

from relay.pipeline.batching.transaction cimport BatchTransaction, BatchSnapshot, seal_batch
from relay.codec.otlp.batch cimport OpenBatch


@cython.locals(touch=BatchSnapshot, batch=OpenBatch, fresh=bint)
cpdef Py_ssize_t close_round(
    BatchTransaction transaction, offsets, schedule, exemplar_buffer, double tick
) except? -1
