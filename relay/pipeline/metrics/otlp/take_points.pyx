# cython: boundscheck=False, wraparound=False, cdivision=True
"""Append the points of one metric to their batches: the inner loop of OTLP metrics.

* A stream is found by the bytes of its attributes. A point that leaves as it came is copied with
  its tag and length.
* A batch is also full at :data:`BATCH_BYTES_MAX` bytes of points, so that encoding and compressing
  it never holds the event loop.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItem
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.metrics_in.scan cimport DataPoint, MetricsEnvelope
from relay.pipeline.batching.append cimport append_number
from relay.pipeline.batching.batch_bytes cimport BATCH_BYTES_MAX
from relay.pipeline.batching.transaction cimport BatchTransaction
from relay.pipeline.metrics.hotpath.v1_loop cimport stamp_of
from relay.pipeline.metrics.otlp.plan cimport OtlpStream, Plan
from relay.pipeline.metrics.series.series_table cimport SeriesTable

from relay.codec.otlp.data_points import STALE
from relay.pipeline.batching.transaction import TOO_FAR_IN_FUTURE
from relay.pipeline.metrics.hotpath.slow_path import count_expansion
from relay.pipeline.metrics.otlp.converting import append_with_extras, convert

cdef enum:
    STEP = 64  # points between two pauses
    NO_RECORDED_VALUE = 1
    MS = 1_000_000  # ns

cdef uint64_t TIME_MAX = (1 << 63) - 1
cdef uint64_t STALE_BITS
memcpy(&STALE_BITS, PyBytes_AS_STRING(STALE), 8)


def take_points(
    MetricsEnvelope envelope not None, Py_ssize_t first, Py_ssize_t stop, metric, streams,
    BatchTransaction transaction not None,
):
    """Append the points from ``first`` to ``stop``, which are of this metric.

    Raise DecodeError where attributes cannot be read, OverloadedError for too many new streams,
    TooLargeError for points that become too many bytes, and what pauses raise.
    """
    cdef dict known = metric.children
    cdef SeriesTable table = streams.table
    cdef Py_ssize_t at, samples = 0, expansion = 0, sinks
    cdef DataPoint *point
    cdef OtlpStream stream
    cdef Plan plan = None
    cdef object match_set = None, found
    cdef list counts = transaction.sample_counts
    cdef bytes attributes
    cdef str fault
    for at in range(first, stop):
        if not (at - first + 1) % STEP:
            transaction.pace.pause()
        point = &envelope.points[at]
        if point.time_ns < MS or point.time_ns > TIME_MAX:
            transaction.drop("timestamp", 1, f"{metric.name} at {point.time_ns} ns")
            continue
        attributes = envelope.attributes_of(point)
        found = <object>PyDict_GetItem(known, attributes) if attributes in known else None
        stream = <OtlpStream>found
        if stream is None or stream.generation != table.generation or (
            stream.series.generation != table.generation
        ):
            transaction.pace.pause()
            fault = streams.refresh(metric, attributes, stream)
            if fault:
                transaction.drop(fault, 1, f"a point of {metric.name or 'no metric'}")
                continue
            stream = known[attributes]
        if point.time_ns > transaction.latest_ns:
            transaction.drop(TOO_FAR_IN_FUTURE, 1, metric.name, stream.series)
            continue
        plan = stream.plan
        if plan.match_set is not match_set:
            if samples:
                counts.append((match_set, samples))
            match_set = plan.match_set
            samples = 0
        samples += 1
        sinks = append_as_it_came(envelope, point, plan, transaction)
        if plan.routes:
            append_sample(envelope, at, point, plan, transaction)
            sinks += len(plan.match_set.base.raw)
        # A point has its own size in the body: only further copies of it are more.
        if sinks > 1:
            expansion += (sinks - 1) * (point.end - point.start)
            if expansion > BATCH_BYTES_MAX:
                count_expansion(expansion, transaction)
                expansion = 0
        if plan.converts is not None:
            convert(envelope.point(at), metric.parts.kind, plan, transaction)
        for reason, targets in plan.omitted:
            transaction.omit(plan.name, reason, targets)
    if samples:
        counts.append((match_set, samples))
    count_expansion(expansion, transaction)


cdef Py_ssize_t append_as_it_came(
    MetricsEnvelope envelope, DataPoint *point, Plan plan, BatchTransaction transaction
) except -1:
    """Append a point to the batches that take it as it came; return their number."""
    cdef bytes whole
    cdef tuple way, batches
    cdef object group
    cdef OpenBatch batch
    cdef Py_ssize_t sinks = 0
    if not plan.ways:
        return 0
    whole = PyBytes_FromStringAndSize(
        PyBytes_AS_STRING(envelope.body) + point.start, point.end - point.start
    )
    for way in plan.ways:
        group, batches = way
        for batch in batches:
            if batch.group is not group:
                transaction.begin_run(batch, group)
            batch.point_buffer.add_finished(whole)
            batch.count += 1
            sinks += 1
            if batch.count == batch.limit or batch.point_buffer.size >= BATCH_BYTES_MAX:
                transaction.seal(batch)
    return sinks


cdef int append_sample(
    MetricsEnvelope envelope, Py_ssize_t at, DataPoint *point, Plan plan,
    BatchTransaction transaction
) except -1:
    """Append a number as a sample of its series in Prometheus."""
    cdef uint64_t time_ns = point.time_ns // MS * MS, value = point.value, start_ns = 0
    cdef tuple batches
    cdef OpenBatch batch
    if point.flags & NO_RECORDED_VALUE:
        value = STALE_BITS
    if plan.tells_start and MS <= point.start_ns <= point.time_ns:
        start_ns = point.start_ns
    if start_ns or point.has_more:
        append_with_extras(
            plan, stamp_of(time_ns), PyBytes_FromStringAndSize(<char *>&value, 8), start_ns,
            envelope.point(at) if point.has_more else b"", transaction,
        )
        return 0
    for batches, group, prefix in plan.routes:
        for batch in batches:
            append_number(
                <void *>batch, <void *>group, <void *>prefix, time_ns, value, transaction,
                transaction.request
            )
    return 0
