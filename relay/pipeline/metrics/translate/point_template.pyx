# cython: boundscheck=False, wraparound=False, cdivision=True
"""Builds the prefix of a series' points from its encoded labels.

Rules:

* The decisions that depend on label names alone
  (:mod:`relay.pipeline.metrics.translate.attribute_names`) are made once for all series with the
  same names in the same order: their *template*. Templates are found by the names as they stand in
  the key; mostly it is the one of the series before.
* An attribute is its label with other tags and lengths, so it is written from the series' own
  bytes, and only templates are cached. Labels that are equal to those of the series before, as a
  target's are, have their attributes copied from its prefix, those that stand together at once.
* Labels that need more than a decision by name go through
  :meth:`~relay.pipeline.metrics.translate.translator.Translator.translate`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy

from relay.codec.remote_write.label_parser cimport (
    LabelSchema, SeriesLabels, repeated_labels, schema_of, spans_of_labels,
)
from relay.codec.remote_write.label_spans cimport SPANS_MAX, Span
from relay.codec.varints cimport put_head, varint_size

from relay.pipeline.metrics.translate.attribute_names import TEMPLATES_MAX, attribute_places

cdef enum:
    POINT_TAG = 0x0A
    ATTRIBUTE_TAG = 0x3A  # NumberDataPoint.attributes
    VALUE_TAG = 0x12  # KeyValue.value
    TEXT_TAG = 0x0A  # AnyValue.string_value
    TIME_TAG = 0x19
    REST_BYTES = 18  # of a point, behind its attributes: tag, time, tag, value


cdef inline Py_ssize_t text_size(const Span *span) noexcept:
    """Return the size of a label's value as an attribute value message."""
    return 1 + varint_size(span.value_size) + span.value_size


cdef inline Py_ssize_t attribute_size(const Span *span) noexcept:
    """Return the size of a label as an attribute message."""
    cdef Py_ssize_t text = text_size(span)
    return span.name + span.name_size - span.at + 1 + varint_size(text) + text


cdef class _Template:
    """Labels that become attributes, for series with the same names in the same order."""

    def __cinit__(self, bytes names, tuple labels, list places):
        cdef Py_ssize_t at
        self.names = names
        self.labels = labels
        self.count = len(places)
        self.places = <Py_ssize_t *>PyMem_Malloc(<size_t>self.count * sizeof(Py_ssize_t) + 1)
        if self.places == NULL:
            raise MemoryError
        for at in range(self.count):
            self.places[at] = places[at]

    def __dealloc__(self):
        PyMem_Free(self.places)


cdef class PointTemplates:
    """Writes point prefixes; caches a bounded number of templates.

    The bound is :data:`~relay.pipeline.metrics.translate.attribute_names.TEMPLATES_MAX`.
    """

    def __init__(self, *, bint keeps_target_labels=False):
        self.templates = {}
        self.keeps_target_labels = keeps_target_labels

    cpdef bytes prefix(self, SeriesLabels labels, promoted):
        """Return what :func:`~relay.codec.otlp.metrics.point_prefix` makes of a series' attributes.

        None if that takes a translation, because labels other than job and instance change place:
        those ``promoted`` into the resource, or more than a template can express.
        """
        cdef Span[SPANS_MAX] room
        cdef Py_ssize_t count
        cdef unsigned long long number = 0
        cdef const unsigned char *repeated
        cdef bytes prefix
        cdef const Span *spans = spans_of_labels(labels, room, &count)
        cdef const unsigned char *key = <const unsigned char *>PyBytes_AS_STRING(labels.key)
        cdef LabelSchema schema = labels.schema
        cdef _Template template = self.last
        if schema is None and count > 0:
            schema = labels.schema = schema_of(key, spans, count)
        if schema is None:
            return None
        if template is None or template.names is not schema.names:
            template = self.find(schema.names, labels)
            if template is None:
                return None
            self.last = template
            # To find it may have read other labels, where these stood.
            spans = spans_of_labels(labels, room, &count)
        if promoted and not promoted.isdisjoint(template.labels):
            return None
        repeated = repeated_labels(labels, &number)
        if template is not self.latest_template or number != self.latest_number + 1:
            repeated = NULL
        prefix = self.written(key, spans, template, repeated)
        self.latest_number = number
        return prefix

    cdef bytes written(
        self, const unsigned char *key, const Span *spans, _Template template,
        const unsigned char *repeated
    ):
        """Write a prefix; attributes of ``repeated`` labels are copied from the latest one."""
        cdef Py_ssize_t at, end, size, first, total = 0
        cdef Py_ssize_t *starts = self.latest_starts
        cdef const Py_ssize_t *places = template.places
        cdef const unsigned char *before = NULL
        cdef const Span *span
        cdef bytes prefix
        cdef unsigned char *out
        cdef unsigned char *begin
        for at in range(template.count):
            if repeated != NULL and repeated[places[at]]:
                total += starts[at + 1] - starts[at]
            else:
                size = attribute_size(&spans[places[at]])
                total += 1 + varint_size(size) + size
        if repeated != NULL:
            before = <const unsigned char *>PyBytes_AS_STRING(self.latest)
        size = total + REST_BYTES
        prefix = PyBytes_FromStringAndSize(NULL, 1 + varint_size(size) + total + 1)
        begin = <unsigned char *>PyBytes_AS_STRING(prefix)
        out = put_head(begin, POINT_TAG, size)
        at = 0
        while at < template.count:
            first = out - begin
            if repeated != NULL and repeated[places[at]]:
                # Labels of the target mostly stand together.
                end = at + 1
                while end < template.count and repeated[places[end]]:
                    end += 1
                size = starts[end] - starts[at]
                memcpy(out, before + starts[at], <size_t>size)
                out += size
                first -= starts[at]
                while at < end:
                    starts[at] += first
                    at += 1
                continue
            starts[at] = first
            span = &spans[places[at]]
            out = put_head(out, ATTRIBUTE_TAG, attribute_size(span))
            size = span.name + span.name_size - span.at
            memcpy(out, key + span.at, <size_t>size)
            out = put_head(out + size, VALUE_TAG, text_size(span))
            out = put_head(out, TEXT_TAG, span.value_size)
            memcpy(out, key + span.value, <size_t>span.value_size)
            out += span.value_size
            at += 1
        starts[at] = out - begin
        out[0] = TIME_TAG
        self.latest = prefix
        self.latest_template = template
        return prefix

    cdef _Template find(self, bytes names, SeriesLabels labels):
        """Return the template of these names; None if they need a translation."""
        cdef _Template template
        if names in self.templates:
            template = self.templates[names]
            if template is not None:
                template.names = names  # compared by identity
            return template
        if len(self.templates) >= TEMPLATES_MAX:
            self.templates.clear()
        cdef tuple in_order = tuple(labels)
        places = attribute_places(in_order, keeps_target_labels=self.keeps_target_labels)
        template = None if places is None else _Template(names, in_order, places)
        self.templates[names] = template
        return template

    def __len__(self):
        return len(self.templates)

    def __repr__(self):
        return f"<PointTemplates of {len(self)} sets of names>"
