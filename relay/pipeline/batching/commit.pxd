# What rounds.py is compiled with: the fields that are looked at of every batch of a round.
cimport cython

from relay.pipeline.batching.transaction cimport Intake, Touch, seal
from relay.codec.otlp.batch cimport OpenBatch


@cython.locals(touch=Touch, batch=OpenBatch, fresh=bint)
cpdef Py_ssize_t close_round(Intake intake, positions, schedule, shelf, double tick) except? -1
