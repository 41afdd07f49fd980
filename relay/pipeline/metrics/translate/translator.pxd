# Types that translator.py is compiled with: every new series is placed.
cimport cython

from relay.codec.otlp.groups cimport MetricGroup, ScopeGroup
from relay.codec.remote_write.label_parser cimport SeriesLabels
from relay.pipeline.metrics.translate.group_table cimport GroupTable
from relay.pipeline.metrics.translate.interned cimport Interned
from relay.pipeline.metrics.translate.point_template cimport PointTemplates
from relay.pipeline.metrics.translate.target_info cimport Resource


cdef class Translator:
    cdef Interned _resources
    cdef Interned _scopes
    cdef GroupTable _groups
    cdef PointTemplates _templates
    cdef PointTemplates _templates_with_target
    cdef readonly MetricGroup placed

    cpdef tuple place(
        self, SeriesLabels labels, object metric, Resource target, object promoted=*,
        bint keeps_target_labels=*
    )

    @cython.locals(
        templates=PointTemplates, prefix=bytes, home=ScopeGroup, group=MetricGroup
    )
    cpdef bytes prefix(
        self, SeriesLabels labels, object metric, Resource target, object promoted=*,
        bint keeps_target_labels=*
    )
