# cython: boundscheck=False, wraparound=False, cdivision=True
"""The decode loop of remote write 1.0: find each series and append its points to its batches.

Theory of operation:

* A request is one pass over ``WriteRequest.timeseries``. Senders keep their order, so the series
  that followed the last one before most likely follows it again: its bytes are compared in place,
  with no copy and no hash.
* Nothing is sliced: labels are compared where they stand, times are decoded where they stand, and
  a point is three words in its batch's point buffer.
* The two shapes that nearly all samples have (a value and a six-byte time; a time alone, because
  protobuf leaves a zero value out) are read here; other shapes and faults go through
  :mod:`relay.pipeline.metrics.hotpath.v1_slow_path`.
* A request is *atomic*: the transaction puts every batch back where the body turns out to be
  undecodable, and keeps full batches until the caller takes them.
* Counts are kept for runs of samples with the same match set.
* A series that was not predicted, with one common sample, is found by the hash of its key
  (hash_index.pyx). After repeated wrong predictions the hash index is asked first.
* Predicted series are taken in runs (known_run.pxd), with their batches in hand.
* Other points are appended some dozens at a time (:class:`PendingPoints`): with thousands of sinks
  no batch is in the processor's caches, and each append would wait for memory four times.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from relay.pipeline.metrics.series.hash_index cimport (
    AHEAD, UpcomingSeries, SeriesHashIndex, PrefetchWindow, prefetch_ahead, prefetch_next, key_hash,
)
from relay.pipeline.batching.append cimport append_number
from relay.pipeline.batching.transaction cimport BatchTransaction
from relay.pipeline.metrics.series.lookup cimport SeriesLookup
from relay.pipeline.metrics.series.series_table cimport SeriesTable
from relay.pipeline.metrics.series.series cimport Series
from relay.codec.remote_write.common_sample cimport LABEL_TAG, SERIES_TAG, split, usual_sample
from relay.pipeline.metrics.hotpath.known_run cimport KnownRun, take_known_run
from relay.pipeline.metrics.hotpath.slow_path cimport count_slow_path_entry
from relay.pipeline.metrics.hotpath.v2_symbols cimport short_varint
from relay.codec.otlp.point_buffer cimport PointBuffer
from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.prefetch cimport LINE, prefetch

from relay.runtime.errors import DecodeError
from relay.pipeline.batching.transaction import TOO_FAR_IN_FUTURE
from relay.pipeline.metrics.hotpath.slow_path import append_sample, count_expansion, point_bytes
from relay.pipeline.metrics.hotpath.v1_slow_path import decode_series, other_field
from relay.codec.otlp.metrics import VALUE_TAG
from relay.codec.otlp.data_points import STALE
from relay.codec.protobuf import read_varint


cdef enum:
    OUT_OF_ORDER = 16  # wrong predictions in a row until the hash index is asked first
    IN_ORDER = 16  # right ones in a row until predictions are tried first again
    STEP = 256  # samples of one series between two pauses
    STEP_BYTES = 1 << 18  # known series between two pauses, some 2,000,
    STEP_SINKS = 16  # for up to so many sinks, in less than a millisecond
    STEP_OTHERS = STEP_BYTES // 64  # bytes that an entry counts for if it is no known series
    RETRY = 8  # samples that are read one by one after a run of none
    LEARN_EVERY = 8  # requests; when series arrive unordered, only each 8th updates predictions

cdef uint64_t STALE_BITS
memcpy(&STALE_BITS, PyBytes_AS_STRING(STALE), 8)
cdef bytes TIME_END = VALUE_TAG


cdef bytes stamp_of(uint64_t time_ns):
    """Encode a time as :func:`relay.codec.otlp.metrics.encode_time` does."""
    cdef bytes stamp = PyBytes_FromStringAndSize(NULL, 9)
    memcpy(PyBytes_AS_STRING(stamp), &time_ns, 8)
    PyBytes_AS_STRING(stamp)[8] = PyBytes_AS_STRING(TIME_END)[0]
    return stamp


cdef int append_route(
    tuple batches, object group, bytes prefix, uint64_t time_ns, uint64_t value,
    BatchTransaction transaction, long long request
) except -1:
    """Append a point to every batch of a route."""
    cdef Py_ssize_t at
    if value == STALE_BITS:
        prefix = group.stale_prefix(prefix)
    for at in range(PyTuple_GET_SIZE(batches)):
        append_number(
            <void *>PyTuple_GET_ITEM(batches, at), <void *>group, <void *>prefix, time_ns, value,
            transaction, request
        )
    return 0


cdef class PendingPoints:
    """Points that are appended together, in the order in which they came.

    Append them before anything that appends other points or may change a series' routes.
    """

    def __dealloc__(self):
        self.drop()

    cdef inline int add(
        self, Series series, uint64_t time_ns, uint64_t value, BatchTransaction transaction,
        long long request
    ) except -1:
        """Add a point of a routed series.

        Append it at once if nothing else is pending and the request wrote to its batch before, or
        to that of the point before: a lone batch is not worth waiting for.
        """
        cdef bint is_near = (
            <OpenBatch>PyTuple_GET_ITEM(series.batches, 0)
        ).last_writer_offset == request
        if not self.count and (is_near or not self.was_far):
            self.was_far = not is_near
            return append_points(series, time_ns, value, transaction, request)
        return self.hold(series, time_ns, value, transaction, request)

    cdef int hold(
        self, Series series, uint64_t time_ns, uint64_t value, BatchTransaction transaction,
        long long request
    ) except -1:
        """Keep a point for :meth:`append`."""
        cdef Held *held = &self.held[self.count]
        Py_INCREF(series)
        held.series = <void *>series
        held.time_ns = time_ns
        held.value = value
        self.count += 1
        prefetch(<void *>series.prefix)
        prefetch(<void *>series.batches)
        if self.count == TOGETHER:
            self.append(transaction, request)
        return 0

    cdef int append(self, BatchTransaction transaction, long long request) except -1:
        """Append all pending points."""
        cdef int at
        cdef void *batch = NULL
        cdef void *last = NULL
        # Each loop prefetches what the next one reads; of several batches only the first.
        for at in range(self.count):
            batch = <void *>PyTuple_GET_ITEM((<Series>self.held[at].series).batches, 0)
            prefetch(batch)
            prefetch(<char *>batch + LINE)
        for at in range(self.count):
            batch = <void *>PyTuple_GET_ITEM((<Series>self.held[at].series).batches, 0)
            if (<OpenBatch>batch).last_writer_offset != request and batch != last:
                prefetch(<void *>(<OpenBatch>batch).point_buffer)
                prefetch(<char *><void *>(<OpenBatch>batch).point_buffer + LINE)
            last = batch
        last = NULL
        for at in range(self.count):
            batch = <void *>PyTuple_GET_ITEM((<Series>self.held[at].series).batches, 0)
            if (<OpenBatch>batch).last_writer_offset != request and batch != last:
                fetch_end((<OpenBatch>batch).point_buffer)
            last = batch
        for at in range(self.count):
            append_points(
                <Series>self.held[at].series,
                self.held[at].time_ns,
                self.held[at].value,
                transaction,
                request,
            )
        self.drop()
        return 0

    cdef void drop(self) noexcept:
        """Discard all pending points."""
        while self.count:
            self.count -= 1
            Py_DECREF(<object>self.held[self.count].series)


cdef inline void fetch_end(PointBuffer point_buffer) noexcept:
    prefetch(&point_buffer.points[point_buffer.count])
    prefetch(&point_buffer.runs[point_buffer.runs_count])


cdef int append_points(
    Series series, uint64_t time_ns, uint64_t value, BatchTransaction transaction, long long request
) except -1:
    """Append a point to every batch that a series goes to."""
    if series.batches is None:
        return 0
    if PyTuple_GET_SIZE(series.batches) == 1 and value != STALE_BITS:
        append_number(
            <void *>PyTuple_GET_ITEM(series.batches, 0), <void *>series.group,
            <void *>series.prefix, time_ns, value, transaction, request
        )
    else:
        append_route(
            series.batches, series.group, series.prefix, time_ns, value, transaction, request
        )
    if series.uncommon is not None:
        append_others(series.uncommon.others, time_ns, value, transaction, request)
    return 0


cdef int append_others(
    tuple routes, uint64_t time_ns, uint64_t value, BatchTransaction transaction, long long request
) except -1:
    """Append a point to every batch of some routes."""
    cdef tuple route
    for route in routes:
        append_route(route[0], route[1], route[2], time_ns, value, transaction, request)
    return 0


def has_metadata(bytes body not None, Py_ssize_t entries_max):
    """Return whether a decompressed 1.0 request holds metadata.

    True also if its fields cannot be followed, or it has more series than ``entries_max``: the
    decoder then finds the fault.
    """
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(body)
    cdef const unsigned char *end = at + PyBytes_GET_SIZE(body)
    cdef Py_ssize_t size
    while at < end:
        entries_max -= 1
        if at[0] != SERIES_TAG or entries_max < 0:
            return True
        at += 1
        size = short_varint(&at, end)
        if size < 0 or size > end - at:
            return True
        at += size
    return False


def decode_v1_into_batches(
    bytes body not None, BatchTransaction transaction not None, SeriesLookup lookup not None
):
    """Append every good sample of a decompressed WriteRequest to the batches of its series' routes.

    Raises DecodeError where the body is not a WriteRequest, TooLargeError for more than
    :data:`~relay.pipeline.metrics.hotpath.slow_path.SLOW_PATH_ENTRIES_MAX` slow-path entries.
    Then, and whenever the caller cannot accept the request after all,
    :meth:`BatchTransaction.rollback` puts every batch back.
    """
    cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(body)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(body), pos = 0
    cdef Py_ssize_t start, size, key_size
    cdef SeriesTable table = lookup.table
    cdef long long generation = table.generation
    cdef long long request = transaction.request
    cdef Series last = table.first_in_request
    cdef Series series
    cdef SeriesHashIndex hash_index = table.index
    cdef uint64_t time_ns, value = 0
    cdef list counts = transaction.sample_counts
    cdef list deferred = transaction.deferred
    cdef list points
    cdef object match_set = None
    cdef object found
    cdef bint handled = False
    cdef Py_ssize_t samples = 0
    cdef bytes last_stamp = None  # of samples that are deferred; those of a target have one time
    cdef uint64_t last_time_ns = 0
    cdef PrefetchWindow scout
    cdef PrefetchWindow upcoming  # the one behind a new series
    cdef UpcomingSeries *coming
    cdef uint64_t mark
    cdef int missed = 0, in_row = 0
    cdef PendingPoints waiting = PendingPoints()
    cdef uint64_t latest_ns = transaction.latest_ns
    # Where the next pause is due: counting in bytes costs known series nothing.
    cdef Py_ssize_t step = STEP_BYTES, stop = min(end, step), sinks
    cdef int left = STEP
    cdef KnownRun run
    cdef int skipped = 0  # samples until a run of known ones is tried again
    run.request = request
    run.latest_ns = latest_ns
    run.stale = STALE_BITS
    run.time_bits = ~<uint64_t>0  # no seven bytes
    run.known_ns = 0
    scout.pos = scout.first = scout.count = 0
    upcoming.count = 0
    while True:
        if pos >= stop:
            if pos >= end:
                break
            stop = min(end, pos + step)
            transaction.pace.pause()
        time_ns = 0
        if skipped:
            skipped -= 1
        elif not (handled or waiting.count or hash_index.searching):
            run.last = <void *>last
            run.match_set = <void *>match_set
            run.generation = generation
            pos = take_known_run(&run, data + pos, data + stop, data + end) - data
            samples += run.samples
            if run.samples:
                last = <Series>run.last
                missed = 0
            elif match_set is not None:
                skipped = RETRY
            if run.series != NULL:
                series = <Series>run.series
                time_ns = run.time_ns
                value = run.value
                missed = 0
            elif pos >= stop:
                continue
        if time_ns:
            pass
        elif data[pos] == SERIES_TAG:
            if pos + 1 >= end:
                raise DecodeError("truncated length", offset=pos + 1)
            size = data[pos + 1]
            start = pos + 2
            if size > 127:
                if start >= end:
                    raise DecodeError("truncated length", offset=pos + 1)
                if data[start] < 128:
                    size += (<Py_ssize_t>data[start] << 7) - 128
                    start += 1
                else:
                    found, start = read_varint(body, pos + 1, end)
                    if found > end - start:
                        raise DecodeError(
                            f"length {found} runs past the end of its message", offset=start
                        )
                    size = found
            if size > end - start:
                raise DecodeError(f"length {size} runs past the end of its message", offset=start)
            pos = start + size
        else:
            waiting.append(transaction, request)
            start, pos = other_field(body, pos, end, transaction)
            stop -= STEP_OTHERS
            if start < 0:
                continue
            size = pos - start

        if hash_index.searching:
            if scout.count and scout.coming[scout.first].start == start:
                coming = &scout.coming[scout.first]
                scout.first = (scout.first + 1) % AHEAD
                scout.count -= 1
                series = hash_index.find(coming.mark, data + start, coming.key_size)
                if may_use(series, generation):
                    time_ns = coming.time_ns
                    value = coming.value
            else:
                scout.count = 0
                scout.pos = pos
            prefetch_ahead(&scout, data, end, hash_index)
            if time_ns:
                in_row = in_row + 1 if series is last.predicted_next else 0
                if in_row == IN_ORDER:
                    hash_index.searching = False
                elif not in_row and request % LEARN_EVERY == 0 and last.generation >= 0:
                    last.predicted_next = series
        if not time_ns:
            series = last.predicted_next
            if series is not None:
                key_size = PyBytes_GET_SIZE(series.key)
                if key_size <= size and not memcmp(
                    data + start, PyBytes_AS_STRING(series.key), <size_t>key_size
                ):
                    if series.generation != generation:
                        waiting.append(transaction, request)
                        last.predicted_next = series = lookup.known(series)
                        stop -= STEP_OTHERS
                        generation = table.generation
                    time_ns = usual_sample(data + start + key_size, size - key_size, &value)
                    missed = 0
        if not time_ns:
            # Another series than predicted, or a sample of another shape.
            if upcoming.count and upcoming.coming[0].start == start:
                coming = &upcoming.coming[0]  # read and hashed behind a new series
                key_size = coming.key_size
                time_ns = coming.time_ns
                value = coming.value
                mark = coming.mark
            else:
                key_size = split(data + start, size, &time_ns, &value)
                mark = key_hash(data + start, key_size) if key_size else 0
            upcoming.count = 0
            series = None
            if key_size:
                series = hash_index.find(mark, data + start, key_size)
                if not may_use(series, generation):
                    if series is None:
                        prefetch_next(&upcoming, data, pos, end, hash_index)
                    waiting.append(transaction, request)
                    series = look_up(body, start, key_size, mark, series, transaction, lookup)
                    stop -= STEP_OTHERS
                    generation = table.generation
                else:
                    missed += 1
                    if missed == OUT_OF_ORDER and not hash_index.searching:
                        hash_index.searching = True
                        scout.count = 0
                        scout.pos = pos
            if series is not None:
                if last.generation >= 0:
                    # An evicted series must not keep others alive.
                    last.predicted_next = series
            else:
                time_ns = 0
                waiting.append(transaction, request)
                found, points = decode_series(body, start, pos, last, transaction, lookup)
                stop -= STEP_OTHERS
                series = found
                generation = table.generation
            if series is None:
                continue
        last = series
        if series.match_set is not match_set:
            if match_set is not None:
                counts.append((match_set, samples))
            match_set = series.match_set
            handled = match_set.handled
            samples = 0
            sinks = len(match_set.sinks)
            step = STEP_BYTES if sinks <= STEP_SINKS else STEP_BYTES * STEP_SINKS // sinks
            stop = min(stop, pos + step)
        if not time_ns:
            if len(points) > 1:
                count_expansion(len(points) * point_bytes(series, series.match_set), transaction)
            samples += len(points)
            for stamp, number, extra in points:
                left -= 1
                if not left:
                    left = STEP
                    transaction.pace.pause()
                append_sample(series, stamp, number, extra, transaction)
            continue
        if time_ns > latest_ns:
            transaction.drop(TOO_FAR_IN_FUTURE, 1, series.name, series)
            continue
        samples += 1
        if handled:
            if time_ns != last_time_ns:
                last_stamp = stamp_of(time_ns)
                last_time_ns = time_ns
            deferred.append((
                series.handlers,
                last_stamp,
                PyBytes_FromStringAndSize(<char *>&value, 8),
                None,
            ))
        if series.batches is not None:
            waiting.add(series, time_ns, value, transaction, request)
    waiting.append(transaction, request)
    if match_set is not None:
        counts.append((match_set, samples))


cdef inline bint is_faulty(Series series) noexcept:
    return series.uncommon is not None and series.uncommon.fault


cdef inline bint may_use(Series series, long long generation) noexcept:
    """Return whether a series that was found by its key may be used as it is."""
    return series is not None and series.generation == generation and not is_faulty(series)


cdef bint is_labels(const unsigned char *at, Py_ssize_t size) noexcept:
    """Return whether these are label fields alone, with lengths of one or two bytes."""
    cdef Py_ssize_t pos = 0, length
    while pos + 2 < size:
        length = at[pos + 1]
        if at[pos] != LABEL_TAG:
            return False
        pos += 2
        if length > 127:
            if at[pos] > 127:
                return False
            length += (<Py_ssize_t>at[pos] << 7) - 128
            pos += 1
        pos += length
    return pos == size


cdef Series look_up(
    bytes body, Py_ssize_t start, Py_ssize_t key_size, uint64_t mark, Series found,
    BatchTransaction transaction, SeriesLookup lookup
):
    """Return the series with these labels, ``found`` in the index; None where they are faulty."""
    cdef char *key = PyBytes_AS_STRING(body) + start
    if found is None and not is_labels(<const unsigned char *>key, key_size):
        return None
    cdef Series series
    try:
        if found is not None:
            series = lookup.known(found)
        else:
            series = lookup.new(PyBytes_FromStringAndSize(key, key_size), mark)
        if not is_faulty(series):
            count_slow_path_entry(transaction)
            return series
    except DecodeError:
        pass  # the slow path finds the fault and its offset
    return None
