# cython: boundscheck=False, wraparound=False, cdivision=True
"""Fields of log records and spans, read where a selection asks for them.

* Nothing is decoded but the fields asked for. Of a field that occurs twice the last one counts, and
  a message is merged of both, as in protobuf's own parsers: encoded, one stands behind the other.
* A record that cannot be read is never an error here: it has none of the fields, because only some
  sources ask and others forward it as it is.
* Field numbers are from opentelemetry-proto, ``logs/v1/logs.proto``, ``trace/v1/trace.proto`` and
  ``common/v1/common.proto``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from relay.codec.otlp.envelope cimport Envelope, Slice
from relay.codec.wire_types cimport BYTES, FIXED32, FIXED64, VARINT

from relay.codec.remote_write.v1 import no_pause

cdef enum:
    SEVERITY_NUMBER = 2  # of LogRecord
    TRACE_ID = 1  # of Span
    TRACE_STATE = 3
    TRACE_ID_BYTES = 16
    STATE_DIGITS = 14  # of 56 bits in a tracestate, hexadecimal
    RANDOM_BYTES = 7  # of a trace id, its last ones
    KEY = 1  # of KeyValue
    VALUE = 2
    ARRAY_VALUE = 5  # of AnyValue
    KVLIST_VALUE = 6
    VALUES = 1  # of ArrayValue and KeyValueList
    STEP_BYTES = 1 << 20  # records between two pauses: 1 to 3 ms where all is fields
    FIELDS_BYTES = 1 << 15  # of one record between two pauses: 8,000 attributes take 1 ms
    PAIRS_MAX = 10_000  # attributes of a record that can be read
    DEPTH_MAX = 100  # messages in each other, as in protobuf's own parsers


cdef const unsigned char *read_varint(
    const unsigned char *at, const unsigned char *stop, uint64_t *value
) noexcept:
    """Return the position behind a varint; NULL if there is none."""
    cdef uint64_t found = 0
    cdef int shift = 0
    while at < stop and shift < 70:
        found |= <uint64_t>(at[0] & 0x7F) << shift
        if at[0] < 128:
            value[0] = found
            return at + 1
        at += 1
        shift += 7
    return NULL


cdef const unsigned char *read_field(
    const unsigned char *at, const unsigned char *stop, Field *field
) noexcept:
    """Return the position behind a field; NULL if it cannot be read."""
    cdef uint64_t size
    at = read_varint(at, stop, &size)
    if at == NULL:
        return NULL
    field.number = size >> 3
    field.wire_type = <int>(size & 7)
    if field.wire_type == VARINT:
        return read_varint(at, stop, &field.value)
    if field.wire_type == BYTES:
        at = read_varint(at, stop, &size)
        if at == NULL or size > <uint64_t>(stop - at):
            return NULL
    elif field.wire_type == FIXED64:
        size = 8
    elif field.wire_type == FIXED32:
        size = 4
    else:
        return NULL
    if size > <uint64_t>(stop - at):
        return NULL
    field.payload = at
    field.end = at + size
    return field.end


cdef inline const unsigned char *data_of(Envelope envelope) noexcept:
    return <const unsigned char *>PyBytes_AS_STRING(envelope.body)


cdef inline const unsigned char *mark_behind(
    const unsigned char *at, const unsigned char *stop
) noexcept:
    """Return where the next pause is due: counted in bytes, it costs the fields nothing."""
    return stop if stop - at <= FIELDS_BYTES else at + FIELDS_BYTES


cdef inline const unsigned char *read_paced(
    const unsigned char *at, const unsigned char *stop, Field *field,
    const unsigned char **mark, pause,
) except? NULL:
    """Read a field, behind a pause if one is due at ``mark``."""
    if at >= mark[0]:
        pause()
        mark[0] = mark_behind(at, stop)
    return read_field(at, stop, field)


cdef int severity_of(const unsigned char *at, const unsigned char *stop, pause) except? -1:
    """Return a log record's severity number; 0 where it has none."""
    cdef Field field
    cdef int severity = 0
    cdef const unsigned char *mark = mark_behind(at, stop)
    while True:
        while at < mark:
            # Nearly all other fields: short ones with a length, and times.
            if at[0] & 0x87 == BYTES and stop - at > 1 and at[1] < 128 and at[1] <= stop - at - 2:
                at += 2 + at[1]
                continue
            if at[0] & 0x87 == FIXED64 and stop - at > 8:
                at += 9
                continue
            at = read_field(at, stop, &field)
            if at == NULL:
                return 0
            if field.number == SEVERITY_NUMBER and field.wire_type == VARINT:
                severity = <int>field.value  # an enum has 32 bits
        if at >= stop:
            return severity
        pause()
        mark = mark_behind(at, stop)


cdef struct Sampling:
    # Members of the OpenTelemetry part of a tracestate, 56 bits each.
    bint has_randomness
    bint has_threshold
    uint64_t randomness
    uint64_t threshold


cdef bint read_hex(const unsigned char *at, const unsigned char *stop, uint64_t *value) noexcept:
    """Read 1 to 14 digits as the first ones of 14; return False for anything else."""
    cdef uint64_t found = 0
    cdef Py_ssize_t digits = stop - at
    if digits < 1 or digits > STATE_DIGITS:
        return False
    while at < stop:
        if 48 <= at[0] <= 57:  # 0 to 9
            found = found << 4 | <uint64_t>(at[0] - 48)
        elif 97 <= at[0] <= 102:  # a to f
            found = found << 4 | <uint64_t>(at[0] - 87)
        else:
            return False
        at += 1
    value[0] = found << 4 * (STATE_DIGITS - digits)
    return True


cdef void read_members(
    const unsigned char *at, const unsigned char *stop, Sampling *found
) noexcept:
    """Read ``rv:`` and ``th:`` of ``key:value;key:value``; what is malformed is not there."""
    cdef const unsigned char *end
    while at < stop:
        end = at
        while end < stop and end[0] != 59:  # ;
            end += 1
        if end - at > 3 and at[2] == 58:  # :
            if at[0] == 114 and at[1] == 118 and end - at == 3 + STATE_DIGITS:  # rv
                found.has_randomness = read_hex(at + 3, end, &found.randomness)
            elif at[0] == 116 and at[1] == 104:  # th
                found.has_threshold = read_hex(at + 3, end, &found.threshold)
        at = end + 1


cdef void read_state(const unsigned char *at, const unsigned char *stop, Sampling *found) noexcept:
    """Read the list member ``ot`` of a tracestate (W3C Trace Context, section 3.3); the first."""
    cdef const unsigned char *end
    cdef const unsigned char *last
    while at < stop:
        end = at
        while end < stop and end[0] != 44:  # ,
            end += 1
        last = end
        while at < last and (at[0] == 32 or at[0] == 9):
            at += 1
        while last > at and ((last - 1)[0] == 32 or (last - 1)[0] == 9):
            last -= 1
        if last - at > 3 and at[0] == 111 and at[1] == 116 and at[2] == 61:  # ot=
            read_members(at + 3, last, found)
            return
        at = end + 1


cdef bint is_sampled(
    const unsigned char *at, const unsigned char *stop, uint64_t threshold, pause
) except -1:
    """Return whether a span's randomness is at least ``threshold``, or was held to a higher one."""
    cdef Field field
    cdef const unsigned char *trace_id = NULL
    cdef const unsigned char *state = NULL
    cdef const unsigned char *state_end = NULL
    cdef Sampling found
    cdef uint64_t randomness = 0
    cdef int number
    cdef const unsigned char *mark = mark_behind(at, stop)
    while at < stop:
        at = read_paced(at, stop, &field, &mark, pause)
        if at == NULL:
            return False
        if field.number == TRACE_ID and field.wire_type == BYTES:
            trace_id = field.payload if field.end - field.payload == TRACE_ID_BYTES else NULL
        elif field.number == TRACE_STATE and field.wire_type == BYTES:
            state, state_end = field.payload, field.end
    if trace_id == NULL:
        return False
    found.has_randomness = found.has_threshold = False
    if state != NULL:
        read_state(state, state_end, &found)
    if found.has_threshold and found.threshold >= threshold:
        return True
    if found.has_randomness:
        return found.randomness >= threshold
    for number in range(TRACE_ID_BYTES - RANDOM_BYTES, TRACE_ID_BYTES):
        randomness = randomness << 8 | trace_id[number]
    return randomness >= threshold


ctypedef bint (*Passes)(
    const unsigned char *at, const unsigned char *stop, uint64_t bound, object pause
) except -1


cdef list passing(Envelope envelope, list ranges, Passes passes, uint64_t bound, pause):
    """Return the records of these rows that pass a bound, in rows."""
    cdef const unsigned char *data = data_of(envelope)
    cdef Slice *record
    cdef Py_ssize_t first, start, stop, at, size = 0
    cdef list found = []
    for start, stop in ranges:
        assert 0 <= start <= stop <= envelope.count
        first = -1
        for at in range(start, stop):
            record = &envelope.records[at]
            size += record.end - record.start
            if size > STEP_BYTES:
                size = 0
                pause()
            if passes(data + record.payload, data + record.end, bound, pause):
                if first < 0:
                    first = at
            elif first >= 0:
                found.append((first, at))
                first = -1
        if first >= 0:
            found.append((first, stop))
    return found


cdef bint is_severe(
    const unsigned char *at, const unsigned char *stop, uint64_t severity_min, pause
) except -1:
    return severity_of(at, stop, pause) >= <int>severity_min


def with_severity(
    Envelope envelope not None, list ranges not None, int severity_min, pause=no_pause
):
    """Return the log records of these rows whose severity number is at least ``severity_min``."""
    return passing(envelope, ranges, is_severe, <uint64_t>severity_min, pause)


cpdef Py_ssize_t without_severity(
    Envelope envelope, Py_ssize_t first, Py_ssize_t stop, pause
) except -1:
    """Return how many log records of a row have no severity number."""
    assert 0 <= first <= stop <= envelope.count
    cdef const unsigned char *data = data_of(envelope)
    cdef Slice *record
    cdef Py_ssize_t at, size = 0, found = 0
    for at in range(first, stop):
        record = &envelope.records[at]
        size += record.end - record.start
        if size > STEP_BYTES:
            size = 0
            pause()
        found += severity_of(data + record.payload, data + record.end, pause) <= 0
    return found


def sampled(Envelope envelope not None, list ranges not None, uint64_t threshold, pause=no_pause):
    """Return the spans of these rows that pass a rejection threshold of 56 bits.

    The randomness is ``rv`` of the tracestate, else the last seven bytes of the trace id
    (OpenTelemetry, "TraceState: Probability Sampling"): the same traces pass at every relay. A span
    that was sampled by a higher threshold (``th``) before passes. One without a trace id of 16
    bytes does not. Spans are not changed, so ``th`` stays as it came.
    """
    return passing(envelope, ranges, is_sampled, threshold, pause)


cdef bytes joined(
    const unsigned char *at, const unsigned char *stop, uint64_t field, Py_ssize_t size, pause
):
    """Return what all of a message's ``field`` have, of this size in all; they can be read.

    Copied into place: a message may have a million of them, each too short for an object.
    """
    cdef const unsigned char *mark = mark_behind(at, stop)
    cdef Field one
    cdef bytes found = PyBytes_FromStringAndSize(NULL, size)
    cdef char *out = PyBytes_AS_STRING(found)
    while size:
        at = read_paced(at, stop, &one, &mark, pause)
        if one.number == field and one.wire_type == BYTES:
            memcpy(out, one.payload, <size_t>(one.end - one.payload))
            out += one.end - one.payload
            size -= one.end - one.payload
    return found


cdef list pairs_of(
    const unsigned char *at, const unsigned char *stop, uint64_t field, Py_ssize_t most, pause
):
    """Return key and value of each KeyValue in a message's ``field``, but of empty ones.

    None if it cannot be read, or has more than ``most``.
    """
    cdef const unsigned char *pair
    cdef const unsigned char *mark = mark_behind(at, stop)
    cdef Field one, part
    cdef Py_ssize_t size
    cdef list found = []
    cdef bytes key, value
    while at < stop:
        at = read_paced(at, stop, &one, &mark, pause)
        if at == NULL:
            return None
        if one.number != field or one.wire_type != BYTES or one.payload == one.end:
            continue
        if len(found) == most:
            return None
        key = value = b""
        size = 0
        pair = one.payload
        while pair < one.end:
            pair = read_paced(pair, one.end, &part, &mark, pause)
            if pair == NULL:
                return None
            if part.wire_type != BYTES:
                continue
            if part.number == KEY:
                key = PyBytes_FromStringAndSize(<char *>part.payload, part.end - part.payload)
            elif part.number == VALUE and part.payload < part.end:
                if not size:
                    value = PyBytes_FromStringAndSize(
                        <char *>part.payload, part.end - part.payload
                    )
                size += part.end - part.payload
        if size > PyBytes_GET_SIZE(value):
            value = joined(one.payload, one.end, VALUE, size, pause)
        found.append((key, value))
    return found


def attributes_of(
    Envelope envelope not None, Py_ssize_t number, uint64_t field, pause=no_pause
):
    """Return key and value (an AnyValue's message) of each KeyValue in a record's ``field``.

    None where the record cannot be read, or has over 10,000.
    """
    assert 0 <= number < envelope.count
    cdef const unsigned char *data = data_of(envelope)
    cdef Slice *record = &envelope.records[number]
    return pairs_of(data + record.payload, data + record.end, field, PAIRS_MAX, pause)


def attributes_in(bytes message not None, uint64_t field, uint64_t outer=0, pause=no_pause):
    """Return the same of a message, or of the messages in its field ``outer``, however many."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(message)
    cdef const unsigned char *stop = at + PyBytes_GET_SIZE(message)
    cdef Field one
    cdef list found = [], own
    if not outer:
        return pairs_of(at, stop, field, <Py_ssize_t>1 << 62, pause)
    while at < stop:
        at = read_field(at, stop, &one)
        if at == NULL:
            return None
        if one.number == outer and one.wire_type == BYTES:
            own = pairs_of(one.payload, one.end, field, <Py_ssize_t>1 << 62, pause)
            if own is None:
                return None
            found += own
    return found


cdef Py_ssize_t count_values(
    const unsigned char *at, const unsigned char *stop, Py_ssize_t most, int depth
) noexcept:
    """Return how many values an AnyValue has, itself included.

    Any number above ``most`` stands for more, or for messages that are too deep in each other.
    """
    cdef const unsigned char *inner
    cdef const unsigned char *pair
    cdef Field field, one, part
    cdef Py_ssize_t count = 1
    if depth > DEPTH_MAX:
        return most + 1
    while at < stop and count <= most:
        at = read_field(at, stop, &field)
        if at == NULL:
            return count
        if field.wire_type != BYTES or not ARRAY_VALUE <= field.number <= KVLIST_VALUE:
            continue
        inner = field.payload
        while inner < field.end and count <= most:
            inner = read_field(inner, field.end, &one)
            if inner == NULL:
                return count
            if one.number != VALUES or one.wire_type != BYTES:
                continue
            if field.number == ARRAY_VALUE:
                count += count_values(one.payload, one.end, most - count, depth + 2)
                continue
            count += 1
            pair = one.payload
            while pair < one.end and count <= most:
                pair = read_field(pair, one.end, &part)
                if pair == NULL:
                    return count
                if part.number == VALUE and part.wire_type == BYTES:
                    count += count_values(part.payload, part.end, most - count, depth + 3)
    return count


def has_more_values(bytes value not None, Py_ssize_t most):
    """Return whether an encoded AnyValue has more than ``most`` values in it, itself included.

    Also True where messages in it are over 100 levels deep.
    """
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(value)
    return count_values(at, at + PyBytes_GET_SIZE(value), most, 0) > most


def message_of(Envelope envelope not None, Py_ssize_t number, uint64_t field, pause=no_pause):
    """Return the message in a record's ``field``; None where it has none or cannot be read."""
    cdef Py_ssize_t size = 0
    cdef bytes last = last_of(envelope, number, field, &size, pause)
    cdef const unsigned char *data = data_of(envelope)
    if last is None or size == PyBytes_GET_SIZE(last):
        return last
    return joined(
        data + envelope.records[number].payload, data + envelope.records[number].end,
        field, size, pause,
    )


def field_of(Envelope envelope not None, Py_ssize_t number, uint64_t field, pause=no_pause):
    """Return the bytes in a record's ``field``; None where it has none or cannot be read."""
    cdef Py_ssize_t size = 0
    return last_of(envelope, number, field, &size, pause)


cdef bytes last_of(
    Envelope envelope, Py_ssize_t number, uint64_t field, Py_ssize_t *size, pause
):
    """Return the last of a record's ``field`` as ``field_of`` does; add up the sizes of all."""
    assert 0 <= number < envelope.count
    cdef const unsigned char *at = data_of(envelope) + envelope.records[number].payload
    cdef const unsigned char *stop = data_of(envelope) + envelope.records[number].end
    cdef const unsigned char *mark = mark_behind(at, stop)
    cdef const unsigned char *last = NULL
    cdef const unsigned char *end = NULL
    cdef Field one
    while at < stop:
        at = read_paced(at, stop, &one, &mark, pause)
        if at == NULL:
            return None
        if one.number == field and one.wire_type == BYTES:
            last, end = one.payload, one.end
            size[0] += end - last
    return None if last == NULL else PyBytes_FromStringAndSize(<char *>last, end - last)
