# Types that lookup.py is compiled with.
cimport cython
from libc.stdint cimport uint64_t

from relay.codec.remote_write.label_parser cimport LabelParser, SeriesLabels
from relay.pipeline.metrics.metadata.metric_types cimport MetricName
from relay.pipeline.metrics.metadata.project_types cimport ProjectTypes
from relay.pipeline.metrics.series.hash_index cimport hash_of
from relay.pipeline.metrics.series.resolver cimport Resolver
from relay.pipeline.metrics.series.series cimport Series, is_faulty, new_series
from relay.pipeline.metrics.series.series_table cimport SeriesTable


cdef class SeriesLookup:
    cdef public SeriesTable table
    cdef public LabelParser labels
    cdef public object origin
    cdef Resolver _resolver
    cdef object _inventory
    cdef object _info_reader
    cdef tuple _info_prefixes
    cdef object _tenancy
    cdef object _metadata_sink
    cdef Py_ssize_t _series_bytes_max
    cdef dict _names
    cdef str _latest_text
    cdef MetricName _latest_metric
    cdef bint _labels_say_all
    # Of the request:
    cdef bytes _body
    cdef object _reader
    cdef bint _bounded
    cdef object _pause
    cdef bint _is_ahead
    cdef dict _targets
    cdef list _described
    cdef Series _faulty
    cdef Py_ssize_t _new_left
    cdef Py_ssize_t _new_bytes_left
    cdef set _said

    @cython.locals(faulty=Series, found=Series)
    cpdef Series get(self, bytes key, object declared=*)

    @cython.locals(faulty=Series)
    cdef Series new(self, bytes key, uint64_t mark)
    cpdef Series known(self, Series series)
    cpdef tuple view(self, Series series)
    cpdef read_ahead(self)

    @cython.locals(series=Series)
    cdef Series _new(self, bytes key, uint64_t mark, object declared)
    cdef Series _known(self, Series series, object declared)

    @cython.locals(
        series=Series, text=str, metric=MetricName, labels=SeriesLabels, project=str, share=str,
        types=ProjectTypes
    )
    cdef Series _make(self, bytes key, uint64_t mark, object declared)
    cdef MetricName _metric(self, str name)
    cdef _count_new(self, Py_ssize_t key_bytes)
