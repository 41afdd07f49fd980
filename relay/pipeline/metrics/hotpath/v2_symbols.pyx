# cython: boundscheck=False, wraparound=False, cdivision=True
"""The strings of a request of remote write 2.0, and labels made of them.

Rules:

* Strings stay where they stand in the body; nothing is copied or decoded before it is used.
* Labels are written as version 1.0 writes them, because that is what a series' key is. A label is
  written out when the request names it first, and compared as a whole from then on. A text that is
  the value of two labels is compared part by part under the second one.
* What is written out is bounded (:data:`~relay.codec.remote_write.v2.FIELDS_BYTES_MAX`); beyond
  that labels are compared part by part, too.
* Numbers of strings come from senders: each is checked before it is used.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memcmp, memcpy

from relay.codec.resizing cimport resized
from relay.codec.varints cimport field_size, put_head

from relay.pipeline.metrics.hotpath.v2_slow_path import KEY_BYTES_MAX
from relay.codec.remote_write.v1 import ELEMENTS_MAX
from relay.codec.remote_write.v2 import FIELD_BYTES_MAX, FIELDS_BYTES_MAX, Symbols

cdef enum:
    SYMBOL_TAG = 0x22  # Request.symbols (4)
    SERIES_TAG = 0x2A  # Request.timeseries (5)
    LABEL_TAG = 0x0A  # in a key: TimeSeries.labels, Label.name, Label.value
    NAME_TAG = 0x0A
    TEXT_TAG = 0x12
    FIRST_SYMBOLS = 1024
    FEW_SYMBOLS = 1 << 16
    FIRST_FIELDS = 1 << 16

cdef enum:
    STEP = 256  # strings that are copied between two pauses
    SCAN_STEP = 1 << 14  # entries that are stepped over between two pauses

cdef Py_ssize_t _ELEMENTS_MAX = ELEMENTS_MAX, _KEY_BYTES_MAX = KEY_BYTES_MAX
cdef Py_ssize_t _FIELD_BYTES_MAX = FIELD_BYTES_MAX, _FIELDS_BYTES_MAX = FIELDS_BYTES_MAX
cdef bytes METRIC_NAME = b"__name__"


cdef inline const unsigned char *same_head(
    const unsigned char *key, unsigned char tag, Py_ssize_t size
) noexcept:
    """Step over the tag and length of a field; return NULL if they differ.

    There must be room for the field.
    """
    if key[0] != tag:
        return NULL
    key += 1
    while size > 127:
        if key[0] != <unsigned char>(size & 0x7F | 0x80):
            return NULL
        key += 1
        size >>= 7
    return key + 1 if key[0] == <unsigned char>size else NULL


cdef inline unsigned char *put_label(
    unsigned char *out, Symbol *label, Symbol *text, Py_ssize_t size
) noexcept:
    """Write a label as version 1.0 does; ``size`` is that of its message."""
    out = put_head(put_head(out, LABEL_TAG, size), NAME_TAG, label.size)
    memcpy(out, label.data, <size_t>label.size)
    out = put_head(out + label.size, TEXT_TAG, text.size)
    memcpy(out, text.data, <size_t>text.size)
    return out + text.size


cdef class SymbolTable:
    """The strings of a request, as positions in its body, which must outlive the table.

    Raises MemoryError if there is none; a request for the slow path is an answer, not an error.
    """

    def __cinit__(self):
        self.name = NONE
        self.declarations = []

    def __dealloc__(self):
        PyMem_Free(self.symbols)
        PyMem_Free(self.fields)

    cdef int add(self, const unsigned char *data, Py_ssize_t size) except -1:
        """Append a string."""
        cdef Py_ssize_t capacity
        if self.count == self.capacity:
            capacity = self.capacity * 2 if self.capacity else FIRST_SYMBOLS
            if capacity > FEW_SYMBOLS:
                # As many as there can be: pages that are never written take no memory, and to
                # move 12 MiB would take 15 ms.
                capacity = _ELEMENTS_MAX + 1
            self.symbols = <Symbol *>resized(self.symbols, capacity, sizeof(Symbol))
            self.capacity = capacity
        cdef Symbol *symbol = &self.symbols[self.count]
        symbol.data = data
        symbol.size = size
        symbol.label = NONE
        symbol.metadata = NULL
        symbol.metadata_size = 0
        symbol.declared = NULL
        self.count += 1
        return 0

    cdef bint scan(
        self, const unsigned char *at, const unsigned char *end, object pace
    ) except -1:
        """Add all strings of a body; return False if the request needs the slow path.

        It does for a field that is no string and no series, ``"__name__"`` twice, or too many
        strings.
        """
        cdef Py_ssize_t size, series = 0
        cdef unsigned char tag
        cdef int left = SCAN_STEP
        while at < end:
            left -= 1
            if not left:
                left = SCAN_STEP
                pace.pause()
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
        """Return a label as version 1.0 encodes it, valid until the next call.

        NULL if it is too long to be kept, or its text is also that of another label.
        """
        cdef Symbol *text = &self.symbols[of_text]
        if text.label != of_label and not self.write_field(of_label, of_text):
            return NULL
        size[0] = text.field_size
        return self.fields + text.field_at

    cdef bint write_field(self, Py_ssize_t of_label, Py_ssize_t of_text) noexcept:
        """Encode a label; return False if it is not to be kept."""
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
        """Return whether references are the labels of a key.

        ``name`` becomes the number of the metric's name.
        """
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
        """Return the labels as version 1.0 encodes them; None if they need the slow path."""
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

    cdef bint is_news(
        self, Py_ssize_t name, const unsigned char *metadata, Py_ssize_t size
    ) noexcept:
        """Return whether metadata differs from that of the name's last series in the request."""
        cdef Symbol *symbol = &self.symbols[name]
        if (
            symbol.metadata != NULL
            and symbol.metadata_size == size
            and not memcmp(symbol.metadata, metadata, <size_t>size)
        ):
            return False
        symbol.metadata = metadata
        symbol.metadata_size = size
        return True

    cdef int declare(self, Py_ssize_t name, object declared) except -1:
        """Store the declaration of a name's latest metadata."""
        self.declarations.append(declared)
        self.symbols[name].declared = <void *>declared
        return 0

    cdef object declared(self, Py_ssize_t name):
        """Return the declaration of a name's latest metadata, which must exist."""
        return <object>self.symbols[name].declared

    cdef bytes bytes_at(self, Py_ssize_t number):
        return PyBytes_FromStringAndSize(
            <const char *>self.symbols[number].data, self.symbols[number].size
        )

    def text(self, number):
        """Return the string with this number, decoded; raise DecodeError if it is invalid."""
        return self.bytes_at(number).decode(errors="replace") if 0 < number < self.count else ""

    cdef object for_care(self, object pace):
        """Return the table in the form that the slow path uses."""
        cdef Py_ssize_t number
        if self.careful is None:
            symbols = []
            for number in range(self.count):
                if not number % STEP:
                    pace.pause()
                symbols.append(self.bytes_at(number))
            self.careful = Symbols(symbols)
        return self.careful
