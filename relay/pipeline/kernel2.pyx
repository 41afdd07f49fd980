# cython: boundscheck=False, wraparound=False, cdivision=True
"""kernel2.py on raw memory: the same answers, but series are recognised in place.

* The series that followed the last one before most likely follows it again. Its key is what its
  labels are in version 1.0, and a series' references are walked along it. A label is written out
  when the request names it first, and compared as a whole from then on. What is not the guess is
  put together and looked up.
* Metadata that a series of the same name had before in the request costs a comparison.
* A series with one sample of a usual shape, and perhaps metadata, is taken here. All others go the
  way that they go in kernel2.py, and so does a request with anything but strings and series in it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from relay.pipeline.intake cimport Intake, leave
from relay.pipeline.kernel cimport append_points, stamp_of
from relay.pipeline.series cimport Series
from relay.pipeline.shapes cimport usual_time

from relay.pipeline.careful import append_sample, count_careful, count_expansion
from relay.pipeline.intake import Extra
from relay.pipeline.unusual2 import KEY_BYTES_MAX, take_series
from relay.wire.remote_write import ELEMENTS_MAX
from relay.wire.remote_write2 import (
    FIELD_BYTES_MAX,
    FIELDS_BYTES_MAX,
    REFS_MAX,
    Symbols,
    parse_metadata,
    parse_request,
)

cdef enum:
    SYMBOL_TAG = 0x22  # Request.symbols (4)
    SERIES_TAG = 0x2A  # Request.timeseries (5)
    REFS_TAG = 0x0A  # TimeSeries: labels_refs (1), packed
    SAMPLES_TAG = 0x12  # samples (2)
    METADATA_TAG = 0x2A  # metadata (5)
    VALUE_TAG = 0x09  # Sample: value (1, fixed64)
    TIME_TAG = 0x10  # timestamp (2)
    START_TAG = 0x18  # start_timestamp (3)
    LABEL_TAG = 0x0A  # in a key: TimeSeries.labels, Label.name, Label.value
    NAME_TAG = 0x0A
    TEXT_TAG = 0x12
    TIME_BYTES = 6
    NONE = -1
    FIRST_SYMBOLS = 1024
    FIRST_FIELDS = 1 << 16
    EXPANSION_STEP = 1 << 20  # bytes that are counted at a time

cdef Py_ssize_t _ELEMENTS_MAX = ELEMENTS_MAX, _REFS_MAX = REFS_MAX, _KEY_BYTES_MAX = KEY_BYTES_MAX
cdef Py_ssize_t _FIELD_BYTES_MAX = FIELD_BYTES_MAX, _FIELDS_BYTES_MAX = FIELDS_BYTES_MAX
cdef bytes METRIC_NAME = b"__name__"


cdef struct Symbol:
    const unsigned char *data
    Py_ssize_t size
    # The label that it is the text of, as far as is known: its number, NONE before the first one,
    # and where the two are written out.
    Py_ssize_t label
    Py_ssize_t field_at
    Py_ssize_t field_size
    # What the last series said whose name this is; NULL where none did.
    const unsigned char *metadata
    Py_ssize_t metadata_size


cdef struct Parts:  # a series of a usual shape
    const unsigned char *refs
    const unsigned char *refs_end
    const unsigned char *metadata
    Py_ssize_t metadata_size
    uint64_t time_ns
    uint64_t start_ns
    uint64_t value


cdef inline Py_ssize_t short_varint(
    const unsigned char **at, const unsigned char *end
) noexcept:
    """Read a number below 2**28 in at most four bytes, and step over it; -1 for others."""
    cdef const unsigned char *p = at[0]
    cdef Py_ssize_t value = 0
    cdef int shift = 0
    if p < end and p[0] < 128:
        at[0] = p + 1
        return p[0]
    while p < end and shift < 28:
        value |= <Py_ssize_t>(p[0] & 0x7F) << shift
        if p[0] < 128:
            at[0] = p + 1
            return value
        p += 1
        shift += 7
    return NONE


cdef inline Py_ssize_t field_size(Py_ssize_t size) noexcept:
    """Bytes of a field with so many in it."""
    cdef Py_ssize_t whole = size + 2
    while size > 127:
        size >>= 7
        whole += 1
    return whole


cdef inline const unsigned char *same_head(
    const unsigned char *key, unsigned char tag, Py_ssize_t size
) noexcept:
    """Step over the tag and length of a field; NULL where they are others. There must be room for
    the field."""
    if key[0] != tag:
        return NULL
    key += 1
    while size > 127:
        if key[0] != <unsigned char>(size & 0x7F | 0x80):
            return NULL
        key += 1
        size >>= 7
    return key + 1 if key[0] == <unsigned char>size else NULL


cdef inline unsigned char *put_head(
    unsigned char *out, unsigned char tag, Py_ssize_t size
) noexcept:
    """Write the tag and the length of a field."""
    out[0] = tag
    out += 1
    while size > 127:
        out[0] = <unsigned char>(size & 0x7F | 0x80)
        out += 1
        size >>= 7
    out[0] = <unsigned char>size
    return out + 1


cdef inline unsigned char *put_label(
    unsigned char *out, Symbol *label, Symbol *text, Py_ssize_t size
) noexcept:
    """Write a label as version 1.0 does; ``size`` is that of its message."""
    out = put_head(put_head(out, LABEL_TAG, size), NAME_TAG, label.size)
    memcpy(out, label.data, <size_t>label.size)
    out = put_head(out + label.size, TEXT_TAG, text.size)
    memcpy(out, text.data, <size_t>text.size)
    return out + text.size


cdef class Table:
    """The strings of a request, where they stand in it."""

    cdef Symbol *symbols
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef Py_ssize_t name  # the number of "__name__"
    cdef unsigned char *fields  # labels that are written out
    cdef Py_ssize_t fields_size
    cdef Py_ssize_t fields_capacity
    cdef object careful  # the same for the careful way, once it is needed

    def __cinit__(self):
        self.name = NONE

    def __dealloc__(self):
        PyMem_Free(self.symbols)
        PyMem_Free(self.fields)

    cdef int add(self, const unsigned char *data, Py_ssize_t size) except -1:
        """Append a string."""
        cdef Py_ssize_t capacity
        cdef void *symbols
        if self.count == self.capacity:
            capacity = self.capacity * 2 if self.capacity else FIRST_SYMBOLS
            symbols = PyMem_Realloc(self.symbols, <size_t>capacity * sizeof(Symbol))
            if symbols == NULL:
                raise MemoryError
            self.symbols = <Symbol *>symbols
            self.capacity = capacity
        cdef Symbol *symbol = &self.symbols[self.count]
        symbol.data = data
        symbol.size = size
        symbol.label = NONE
        symbol.metadata = NULL
        symbol.metadata_size = 0
        self.count += 1
        return 0

    cdef bint scan(self, const unsigned char *at, const unsigned char *end) except -1:
        """Take in all strings; False where there is anything to be looked at with care."""
        cdef Py_ssize_t size, series = 0
        cdef unsigned char tag
        while at < end:
            tag = at[0]
            at += 1
            size = short_varint(&at, end)
            if size < 0 or size > end - at:
                return False
            if tag == SYMBOL_TAG:
                if size == 8 and not memcmp(at, PyBytes_AS_STRING(METRIC_NAME), 8):
                    if self.name != NONE:
                        return False
                    self.name = self.count
                self.add(at, size)
            elif tag == SERIES_TAG:
                series += 1
            else:
                return False
            if self.count + series > _ELEMENTS_MAX:
                return False
            at += size
        return True

    cdef const unsigned char *field(
        self, Py_ssize_t of_label, Py_ssize_t of_text, Py_ssize_t *size
    ) noexcept:
        """A label as version 1.0 writes it, until the next one is asked for; NULL where it is too
        long to be kept, or its text is that of another label, too."""
        cdef Symbol *text = &self.symbols[of_text]
        if text.label != of_label and not self.write_field(of_label, of_text):
            return NULL
        size[0] = text.field_size
        return self.fields + text.field_at

    cdef bint write_field(self, Py_ssize_t of_label, Py_ssize_t of_text) noexcept:
        """Write a label out; False where it is not to be kept."""
        cdef Symbol *label = &self.symbols[of_label]
        cdef Symbol *text = &self.symbols[of_text]
        cdef Py_ssize_t inner = field_size(label.size) + field_size(text.size)
        cdef Py_ssize_t size = field_size(inner), capacity
        cdef void *fields
        if text.label != NONE or size > _FIELD_BYTES_MAX:
            return False
        if size > self.fields_capacity - self.fields_size:
            capacity = self.fields_capacity * 2 if self.fields_capacity else FIRST_FIELDS
            if capacity > _FIELDS_BYTES_MAX:
                return False
            fields = PyMem_Realloc(self.fields, <size_t>capacity)
            if fields == NULL:
                return False
            self.fields = <unsigned char *>fields
            self.fields_capacity = capacity
        text.label = of_label
        text.field_at = self.fields_size
        text.field_size = size
        put_label(self.fields + self.fields_size, label, text, inner)
        self.fields_size += size
        return True

    cdef bint is_same(
        self, const unsigned char *at, const unsigned char *end, bytes series, Py_ssize_t *name
    ) noexcept:
        """Whether references are the labels of a key. ``name`` becomes the number of the metric's
        name."""
        cdef const unsigned char *key = <const unsigned char *>PyBytes_AS_STRING(series)
        cdef const unsigned char *key_end = key + PyBytes_GET_SIZE(series)
        cdef const unsigned char *field
        cdef Symbol *label
        cdef Symbol *text
        cdef Py_ssize_t of_label, of_text, size = 0
        name[0] = NONE
        while at < end:
            of_label = short_varint(&at, end)
            of_text = short_varint(&at, end)
            if of_label < 0 or of_text < 0 or of_label >= self.count or of_text >= self.count:
                return False
            if of_label == self.name and name[0] == NONE:
                name[0] = of_text
            field = self.field(of_label, of_text, &size)
            if field != NULL:
                if size > key_end - key or memcmp(key, field, <size_t>size):
                    return False
                key += size
                continue
            label = &self.symbols[of_label]
            text = &self.symbols[of_text]
            size = field_size(label.size) + field_size(text.size)
            if field_size(size) > key_end - key:
                return False
            key = same_head(key, LABEL_TAG, size)
            if key == NULL:
                return False
            key = same_head(key, NAME_TAG, label.size)
            if key == NULL or memcmp(key, label.data, <size_t>label.size):
                return False
            key = same_head(key + label.size, TEXT_TAG, text.size)
            if key == NULL or memcmp(key, text.data, <size_t>text.size):
                return False
            key += text.size
        return key == key_end

    cdef bytes key(
        self, const unsigned char *start, const unsigned char *end, Py_ssize_t *name
    ):
        """The labels as version 1.0 writes them; None where they are to be looked at with care."""
        cdef const unsigned char *at = start
        cdef Symbol *label
        cdef Symbol *text
        cdef Py_ssize_t of_label, of_text, size, total = 0
        name[0] = NONE
        while at < end:
            of_label = short_varint(&at, end)
            of_text = short_varint(&at, end)
            if of_label < 0 or of_text < 0 or of_label >= self.count or of_text >= self.count:
                return None
            label = &self.symbols[of_label]
            text = &self.symbols[of_text]
            total += field_size(field_size(label.size) + field_size(text.size))
            if total > _KEY_BYTES_MAX:
                return None
            if of_label == self.name and name[0] == NONE:
                name[0] = of_text
        cdef bytes key = PyBytes_FromStringAndSize(NULL, total)
        cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(key)
        at = start
        while at < end:
            label = &self.symbols[short_varint(&at, end)]
            text = &self.symbols[short_varint(&at, end)]
            size = field_size(label.size) + field_size(text.size)
            out = put_label(out, label, text, size)
        return key

    cdef bint is_news(self, Py_ssize_t name, Parts *parts) noexcept:
        """Whether metadata is not what a series of the name had last in the request."""
        if name == NONE:
            return True
        cdef Symbol *symbol = &self.symbols[name]
        if (
            symbol.metadata != NULL
            and symbol.metadata_size == parts.metadata_size
            and not memcmp(symbol.metadata, parts.metadata, <size_t>parts.metadata_size)
        ):
            return False
        symbol.metadata = parts.metadata
        symbol.metadata_size = parts.metadata_size
        return True

    cdef bytes bytes_at(self, Py_ssize_t number):
        return PyBytes_FromStringAndSize(
            <const char *>self.symbols[number].data, self.symbols[number].size
        )

    cdef str string_at(self, Py_ssize_t number):
        return self.bytes_at(number).decode(errors="replace")

    def text(self, number):
        """See :meth:`Symbols.text`."""
        return self.string_at(number) if 0 < number < self.count else ""

    cdef object for_care(self):
        """The same table for the careful way."""
        cdef Py_ssize_t number
        if self.careful is None:
            self.careful = Symbols([self.bytes_at(number) for number in range(self.count)])
        return self.careful


cdef bint read_usual(
    const unsigned char *at, const unsigned char *end, Parts *parts
) noexcept:
    """Take a series of a usual shape apart; False for any other."""
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


def consume2(table, bytes body not None, Intake intake not None, resolution):
    """See kernel2.py."""
    cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(body)
    cdef const unsigned char *at = data
    cdef const unsigned char *end = data + PyBytes_GET_SIZE(body)
    cdef const unsigned char *start
    cdef Table symbols = Table()
    cdef long long generation = table.generation
    cdef long long request = intake.request
    cdef Series last = table.root
    cdef Series series
    cdef Parts parts
    cdef Py_ssize_t size, name, samples = 0, sinks = 0, expansion = 0
    cdef list tallies = intake.tallies
    cdef list deferred = intake.deferred
    cdef object plan = None
    cdef bint handled = False
    cdef unsigned char tag
    cdef tuple route
    cdef bytes key
    cdef bytes last_stamp = None  # of samples that are deferred; those of a target have one time
    cdef uint64_t last_time_ns = 0
    if not symbols.scan(data, end):
        take_with_care(body, intake, resolution)
        at = end
    while at < end:
        tag = at[0]
        at += 1
        size = short_varint(&at, end)
        start = at
        at += size
        if tag != SERIES_TAG:
            continue
        series = None
        if read_usual(start, at, &parts):
            series = last.next
            if series is None or not symbols.is_same(
                parts.refs, parts.refs_end, series.key, &name
            ):
                key = symbols.key(parts.refs, parts.refs_end, &name)
                series = None
            else:
                key = series.key
            if key is not None:
                if parts.metadata_size and symbols.is_news(name, &parts):
                    learn(body, data, symbols, name, &parts, resolution)
                    generation = table.generation
                if series is None:
                    count_careful(intake)
                if series is None or series.generation != generation:
                    series = resolution.resolve(key)
                    generation = table.generation
                    if series.fault:
                        intake.drop(series.fault, 1, f"series at byte {start - data}")
                        expansion += PyBytes_GET_SIZE(key)
                        continue
                    if last.generation >= 0:
                        # A series that was just forgotten must not keep others alive.
                        last.next = series
        if series is None:
            take_series(body, start - data, at - data, symbols.for_care(), intake, resolution)
            generation = table.generation
            continue
        last = series
        if series.plan is not plan:
            if plan is not None:
                tallies.append((plan, samples))
            plan = series.plan
            handled = plan.handled
            sinks = len(plan.handled_sinks)
            samples = 0
        samples += 1
        # A few bytes of references become labels, and these a point for every sink.
        size = 1 + sinks
        if series.batches is not None:
            size += len(series.batches)
            for route in series.others:
                size += len(route[0])
        expansion += size * PyBytes_GET_SIZE(series.key)
        if expansion > EXPANSION_STEP:
            count_expansion(expansion, intake)
            expansion = 0
        if 0 < parts.start_ns <= parts.time_ns:
            append_sample(
                series,
                stamp_of(parts.time_ns),
                PyBytes_FromStringAndSize(<char *>&parts.value, 8),
                Extra(parts.start_ns),
                intake,
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
        append_points(series, parts.time_ns, parts.value, intake, request)
    if plan is not None:
        tallies.append((plan, samples))
    count_expansion(expansion, intake)
    leave(intake)


cdef int take_with_care(bytes body, object intake, object resolution) except -1:
    """All of a request as kernel2.py takes it."""
    symbols, spans = parse_request(body)
    for start, stop in spans:
        take_series(body, start, stop, symbols, intake, resolution)
    return 0


cdef int learn(
    bytes body, const unsigned char *data, Table symbols, Py_ssize_t name, Parts *parts,
    object resolution
) except -1:
    """Take in the metadata of a series."""
    cdef Py_ssize_t start = parts.metadata - data
    metadata = parse_metadata(body, start, start + parts.metadata_size, symbols)
    resolution.learn("" if name == NONE else symbols.string_at(name), metadata)
    return 0
