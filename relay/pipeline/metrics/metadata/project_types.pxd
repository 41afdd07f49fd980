# Types that project_types.py is compiled with: every new series asks for its type.
from relay.pipeline.metrics.metadata.metric_types cimport Typing


cdef class ProjectTypes:
    cdef object __weakref__
    cdef readonly str project
    cdef public str share
    cdef readonly bint teaches
    cdef readonly object home
    cdef ProjectTypes _platform
    cdef object _families
    cdef object _spare
    cdef readonly dict young
    cdef readonly dict _old
    cdef dict _owned
    cdef bint _forgot
    cdef object _declared
    cdef dict _contradicted
    cdef public dict users
    cdef tuple _said

    cpdef Typing typing(self, str name, declared=*)
    cpdef Typing remembered(self, str name)
