# cython: boundscheck=False, wraparound=False, cdivision=True
"""The decode loop of remote write 2.0: find each series and append its points to its batches.

Theory of operation, besides that of :mod:`relay.pipeline.metrics.hotpath.v1_loop`:

* A request brings its own symbol table, and its series refer to it by numbers that mean something
  else in the next request. The key of a series is its labels as version 1.0 writes them, so both
  versions share series, types and routes.
* The references of a series are compared with the key of the predicted series
  (:mod:`relay.pipeline.metrics.hotpath.v2_symbols`); no label is written out twice. The key of
  another series is assembled and looked up.
* Metadata that a series of the same name had before in the request costs one comparison, and one
  more with what this series declared before.
* A series with one common sample, and perhaps metadata, is decoded here. All others go through
  :func:`relay.pipeline.metrics.hotpath.v2_slow_path.take_series`, and so does a whole request that
  holds anything but symbols and series.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from relay.pipeline.batching.transaction cimport BatchTransaction
from relay.pipeline.metrics.hotpath.slow_path cimport count_slow_path_entry
from relay.pipeline.metrics.hotpath.v1_loop cimport append_points, stamp_of
from relay.pipeline.metrics.series.lookup cimport SeriesLookup
from relay.pipeline.metrics.series.series cimport Series, others_of
from relay.pipeline.metrics.series.series_table cimport SeriesTable
from relay.codec.remote_write.common_sample cimport usual_time
from relay.pipeline.metrics.hotpath.v2_symbols cimport NONE, SymbolTable, short_varint

from relay.pipeline.metrics.hotpath.slow_path import append_sample, count_expansion
from relay.pipeline.batching.transaction import TOO_FAR_IN_FUTURE, SampleExtras
from relay.pipeline.metrics.hotpath.v2_slow_path import take_series
from relay.codec.remote_write.v2 import REFS_MAX, parse_metadata, parse_request

cdef enum:
    SERIES_TAG = 0x2A  # Request.timeseries (5)
    REFS_TAG = 0x0A  # TimeSeries: labels_refs (1), packed
    SAMPLES_TAG = 0x12  # samples (2)
    METADATA_TAG = 0x2A  # metadata (5)
    VALUE_TAG = 0x09  # Sample: value (1, fixed64)
    TIME_TAG = 0x10  # timestamp (2)
    START_TAG = 0x18  # start_timestamp (3)
    TIME_BYTES = 6
    EXPANSION_STEP = 1 << 20  # bytes that are counted at a time
    STEP = 256  # entries between two pauses

cdef Py_ssize_t _REFS_MAX = REFS_MAX


cdef struct Parts:  # a series of a usual shape
    const unsigned char *refs
    const unsigned char *refs_end
    const unsigned char *metadata
    Py_ssize_t metadata_size
    uint64_t time_ns
    uint64_t start_ns
    uint64_t value


cdef bint read_usual(
    const unsigned char *at, const unsigned char *end, Parts *parts
) noexcept:
    """Read the parts of a series of a common shape; return False for any other."""
    cdef Py_ssize_t size
    cdef const unsigned char *sample_end
    if at >= end or at[0] != REFS_TAG:
        return False
    at += 1
    size = short_varint(&at, end)
    if size < 0 or size > end - at or size > _REFS_MAX:
        return False
    parts.refs = at
    at += size
    parts.refs_end = at
    if at >= end or at[0] != SAMPLES_TAG:
        return False
    at += 1
    size = short_varint(&at, end)
    if size < 0 or size > end - at:
        return False
    sample_end = at + size
    parts.value = 0
    if sample_end - at > 9 and at[0] == VALUE_TAG:
        memcpy(&parts.value, at + 1, 8)
        at += 9
    if sample_end - at < 1 + TIME_BYTES or at[0] != TIME_TAG:
        return False
    parts.time_ns = usual_time(at + 1)
    at += 1 + TIME_BYTES
    parts.start_ns = 0
    if at != sample_end:
        if sample_end - at != 1 + TIME_BYTES or at[0] != START_TAG:
            return False
        parts.start_ns = usual_time(at + 1)
        if not parts.start_ns:
            return False
        at = sample_end
    parts.metadata_size = 0
    if at != end:
        if at[0] != METADATA_TAG:
            return False
        at += 1
        size = short_varint(&at, end)
        if size != end - at:
            return False
        parts.metadata = at
        parts.metadata_size = size
    return parts.time_ns != 0


def decode_v2_into_batches(
    bytes body not None, BatchTransaction transaction not None, SeriesLookup lookup not None
):
    """Append every good sample of a decompressed 2.0 request to the batches of its series' routes.

    Raises DecodeError where the body is not a Request, TooLargeError for more entries than
    :data:`~relay.pipeline.metrics.hotpath.slow_path.SLOW_PATH_ENTRIES_MAX`. Then
    :meth:`BatchTransaction.rollback` puts every batch back.
    """
    cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(body)
    cdef const unsigned char *at = data
    cdef const unsigned char *end = data + PyBytes_GET_SIZE(body)
    cdef const unsigned char *start
    cdef SymbolTable symbols = SymbolTable()
    cdef SeriesTable table = lookup.table
    cdef long long generation = table.generation
    cdef long long request = transaction.request
    cdef Series last = table.first_in_request
    cdef Series series
    cdef Parts parts
    cdef Py_ssize_t size, name, samples = 0, sinks = 0, expansion = 0
    cdef list counts = transaction.sample_counts
    cdef list deferred = transaction.deferred
    cdef object match_set = None
    cdef bint handled = False
    cdef bint is_news
    cdef object declared
    cdef unsigned char tag
    cdef tuple route
    cdef bytes key
    cdef bytes last_stamp = None  # of samples that are deferred; those of a target have one time
    cdef uint64_t last_time_ns = 0
    cdef uint64_t latest_ns = transaction.latest_ns
    cdef int left = STEP
    if not symbols.scan(data, end, transaction.pace):
        take_with_care(body, transaction, lookup)
        at = end
    while at < end:
        left -= 1
        if not left:
            left = STEP
            transaction.pace.pause()
        tag = at[0]
        at += 1
        size = short_varint(&at, end)
        start = at
        at += size
        if tag != SERIES_TAG:
            continue
        series = None
        if read_usual(start, at, &parts):
            series = last.predicted_next
            if series is None or not symbols.is_same(
                parts.refs, parts.refs_end, series.key, &name
            ):
                key = symbols.key(parts.refs, parts.refs_end, &name)
                series = None
            else:
                key = series.key
            if key is not None:
                declared = None
                is_news = False
                if parts.metadata_size and name != NONE:
                    is_news = symbols.is_news(name, parts.metadata, parts.metadata_size)
                    if is_news:
                        declare(body, data, symbols, name, &parts, lookup)
                    declared = symbols.declared(name)
                if series is None:
                    count_slow_path_entry(transaction)
                if (
                    series is None
                    or is_news
                    or series.generation != generation
                    or (declared is not None and series.declared is not declared)
                ):
                    series = lookup.get(key, declared)
                    generation = table.generation
                    if series.fault:
                        transaction.drop(series.fault, 1, f"series at byte {start - data}")
                        expansion += PyBytes_GET_SIZE(key)
                        continue
                    if last.generation >= 0:
                        # An evicted series must not keep others alive.
                        last.predicted_next = series
        if series is None:
            known = symbols.for_care(transaction.pace)
            take_series(body, start - data, at - data, known, transaction, lookup)
            generation = table.generation
            continue
        last = series
        if series.match_set is not match_set:
            if match_set is not None:
                counts.append((match_set, samples))
            match_set = series.match_set
            handled = match_set.handled
            sinks = len(match_set.handled_sinks)
            samples = 0
        if parts.time_ns > latest_ns:
            transaction.drop(TOO_FAR_IN_FUTURE, 1, series.name, series)
            continue
        samples += 1
        # A few bytes of references become labels, and these a point for every sink.
        size = 1 + sinks
        if series.batches is not None:
            size += len(series.batches)
            for route in others_of(series):
                size += len(route[0])
        expansion += size * PyBytes_GET_SIZE(series.key)
        if expansion > EXPANSION_STEP:
            count_expansion(expansion, transaction)
            expansion = 0
        if 0 < parts.start_ns <= parts.time_ns:
            append_sample(
                series,
                stamp_of(parts.time_ns),
                PyBytes_FromStringAndSize(<char *>&parts.value, 8),
                SampleExtras(parts.start_ns),
                transaction,
            )
            continue
        if handled:
            if parts.time_ns != last_time_ns:
                last_stamp = stamp_of(parts.time_ns)
                last_time_ns = parts.time_ns
            deferred.append((
                series.handlers,
                last_stamp,
                PyBytes_FromStringAndSize(<char *>&parts.value, 8),
                None,
            ))
        append_points(series, parts.time_ns, parts.value, transaction, request)
    if match_set is not None:
        counts.append((match_set, samples))
    count_expansion(expansion, transaction)


cdef int take_with_care(bytes body, object transaction, SeriesLookup lookup) except -1:
    """Decode a whole request on the slow path."""
    symbols, spans = parse_request(body, pause=transaction.pace.pause)
    for start, stop in spans:
        take_series(body, start, stop, symbols, transaction, lookup)
    return 0


cdef int declare(
    bytes body, const unsigned char *data, SymbolTable symbols, Py_ssize_t name, Parts *parts,
    SeriesLookup lookup
) except -1:
    """Keep the declaration for all series of the name with the same metadata."""
    cdef Py_ssize_t start = parts.metadata - data
    metadata = parse_metadata(body, start, start + parts.metadata_size, symbols)
    symbols.declare(name, lookup.declaration(metadata))
    return 0
