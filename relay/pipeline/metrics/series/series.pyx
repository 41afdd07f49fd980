"""Series and their routes.

A *series* is its raw label bytes, as they stand in the sender's message. What depends on labels
alone is worked out when those bytes are first seen and kept here; a sample then costs a comparison
of bytes and an append. Rules:

* ``Series.generation`` is that of the table when the series was seen last, and its routes may be
  used as they are exactly while that is still the table's generation
  (:mod:`relay.pipeline.metrics.series.series_table`). It is negative for a series that is
  forgotten, or not kept yet.
* ``Series.predicted_next`` is the series that followed last time. A wrong prediction costs a
  look-up, never a wrong answer, because bytes are compared first.
* A chain of a million series, each predicted by the one before it, must not be freed by recursion.
* Series are no business of the cyclic garbage collector, which would take 16 bytes for each and
  look at all of them: they refer to one another by predictions alone, and eviction cuts these.
* Nearly every series has one route or none, and the decode loop reads it for every sample: its
  three parts are fields, and only further routes are tuples. What few series have is an object of
  its own.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT

from relay.pipeline.routing.match_set import NO_MATCH


@cython.no_gc
cdef class UncommonFields:
    """Hold the fields that few series have."""

    def __cinit__(self):
        self.others = ()
        self.fault = ""


@cython.no_gc
cdef class Series:
    """One series as the decode loop uses it.

    * ``name``: the metric's name. ``fault``: why none of its samples can be used, "" if good.
    * ``resolved_version``: the version of ``match_set.project_epoch`` when it was resolved.
    * ``metric_type``: the type of its routes; None if they have none, or there are none.
      ``types``: its project's metric types. ``declared``: the type that it declares, or None.
    * ``dependencies``: objects with versions that its routes depend on, too.
      ``dependency_version``: the sum of their versions then, below 2**31.
    * ``handlers``: get each sample besides the routes, if the match set says so. ``native``: the
      route of native histograms, None until the first one.
    * ``info_claim``: the labels that an info series gives an object; None for nearly all series.
    * ``is_known``, ``scope``: the table's: True once it was seen twice; the number of its origin.
    """

    def __cinit__(self):
        self.generation = -1
        self.resolved_version = -1
        self.match_set = NO_MATCH
        self.handlers = ()
        self.dependencies = ()
        self.name = ""

    def __init__(self, bytes key not None):
        self.key = key

    def __dealloc__(self):
        cdef Series following = self.predicted_next, behind
        self.predicted_next = None
        while following is not None and Py_REFCNT(following) == 1:
            behind = following.predicted_next
            following.predicted_next = None
            following = behind
            behind = None

    @property
    def routes(self):
        """Its routes: for each one the batches, the metric's group and the point prefix."""
        if self.batches is None:
            return ()
        return ((self.batches, self.group, self.prefix), *others_of(self))

    @routes.setter
    def routes(self, tuple routes not None):
        if routes:
            self.batches, self.group, self.prefix = routes[0]
        else:
            self.batches = self.group = self.prefix = None
        if self.uncommon is not None or len(routes) > 1:
            uncommon_of(self).others = routes[1:]

    @property
    def native(self):
        return None if self.uncommon is None else self.uncommon.native

    @native.setter
    def native(self, native):
        if self.uncommon is not None or native is not None:
            uncommon_of(self).native = native

    @property
    def info_claim(self):
        return None if self.uncommon is None else self.uncommon.info_claim

    @info_claim.setter
    def info_claim(self, claim):
        if self.uncommon is not None or claim is not None:
            uncommon_of(self).info_claim = claim

    @property
    def fault(self):
        return "" if self.uncommon is None else self.uncommon.fault

    @fault.setter
    def fault(self, str fault not None):
        if self.uncommon is not None or fault:
            uncommon_of(self).fault = fault

    def empty(self, bytes key not None):
        """Release all references, and match no message any more.

        The prediction is cut, or a chain of evicted series would stay alive behind a live one.
        """
        self.key = key
        self.predicted_next = None
        self.generation = -1
        self.match_set = NO_MATCH
        self.routes = ()
        self.handlers = ()
        self.dependencies = ()
        self.metric_type = self.types = self.declared = None
        self.uncommon = None

    def __repr__(self):
        return f"<Series {self.name or self.key!r} -> {len(self.routes)} routes>"


cpdef Series new_series(bytes key):
    """Return a series with this key."""
    cdef Series series = Series.__new__(Series)
    series.key = key
    return series


cpdef bint is_faulty(Series series) noexcept:
    """Return whether a series has a fault."""
    return series.uncommon is not None and series.uncommon.fault != ""


cpdef set_route(Series series, tuple batches, object group, bytes prefix):
    """Give a series its only route."""
    series.batches = batches
    series.group = group
    series.prefix = prefix
    if series.uncommon is not None:
        series.uncommon.others = ()


@cython.no_gc
cdef class SeriesQueue:
    """First-in, first-out queue of series.

    Not tracked by the cyclic garbage collector, which would visit each one.
    """

    def __dealloc__(self):
        while self.count:
            self.popleft()
        PyMem_Free(self.front)

    cpdef append(self, Series series):
        """Add a series at the end."""
        cdef Block *block
        if self.back == NULL or self.end == BLOCK_SERIES:
            block = <Block *>PyMem_Malloc(sizeof(Block))
            if block == NULL:
                raise MemoryError
            block.following = NULL
            if self.back == NULL:
                self.front = block
            else:
                self.back.following = block
            self.back = block
            self.end = 0
        Py_INCREF(series)
        self.back.series[self.end] = <void *>series
        self.end += 1
        self.count += 1

    cpdef Series popleft(self):
        """Remove the first series and return it."""
        cdef Block *block = self.front
        cdef Series series
        if not self.count:
            raise IndexError("no series")
        series = <Series>block.series[self.begin]
        Py_DECREF(series)
        self.count -= 1
        self.begin += 1
        if not self.count:
            self.begin = self.end = 0  # the block is used again
        elif self.begin == BLOCK_SERIES:
            self.front = block.following
            self.begin = 0
            PyMem_Free(block)
        return series

    cpdef Series first(self):
        """Return the first series, or None."""
        return <Series>self.front.series[self.begin] if self.count else None

    def __len__(self):
        return self.count

    def __iter__(self):
        """Iterate over those that are in the queue now."""
        cdef list found = []
        cdef Block *block = self.front
        cdef int at = self.begin
        for _ in range(self.count):
            if at == BLOCK_SERIES:
                block, at = block.following, 0
            found.append(<Series>block.series[at])
            at += 1
        return iter(found)

    def __repr__(self):
        return f"<SeriesQueue of {self.count}>"


cdef UncommonFields uncommon_of(Series series):
    """Return the fields that few series have, for writing."""
    if series.uncommon is None:
        series.uncommon = UncommonFields()
    return series.uncommon
