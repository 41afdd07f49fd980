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
* A chain of a million series, each predicted by the one before it, must not be freed by recursion
  (``trashcan``, which a ``.py`` with a ``.pxd`` cannot declare).
* Nearly every series has one route or none, and the decode loop reads it for every sample: its
  three parts are fields, and only further routes are tuples.
"""

cimport cython

from relay.pipeline.routing.match_set import NO_MATCH


@cython.trashcan(True)
cdef class Series:
    """One series as the decode loop uses it.

    * ``name``: the metric's name. ``fault``: why none of its samples can be used, "" if good.
    * ``resolved_version``: the version of ``match_set.project_epoch`` when it was resolved.
    * ``metric_type``: the type of its routes; None if they have none, or there are none.
      ``types``: its project's metric types. ``declared``: the type that it declares, or None.
    * ``dependencies``: objects with versions that its routes depend on, too.
      ``dependency_version``: the sum of their versions then.
    * ``handlers``: get each sample besides the routes, if the match set says so. ``native``: the
      route of native histograms, None until the first one.
    * ``info_claim``: the labels that an info series gives an object; None for nearly all series.
    * ``is_known``, ``shard``: the table's: True once it was seen twice; the dictionary that holds
      it.
    """

    def __init__(self, bytes key not None):
        self.key = key
        self.generation = -1
        self.resolved_version = -1
        self.match_set = NO_MATCH
        self.others = ()
        self.handlers = ()
        self.dependencies = ()
        self.name = ""
        self.fault = ""

    @property
    def routes(self):
        """Its routes: for each one the batches, the metric's group and the point prefix."""
        if self.batches is None:
            return ()
        return ((self.batches, self.group, self.prefix), *self.others)

    @routes.setter
    def routes(self, tuple routes not None):
        if routes:
            self.batches, self.group, self.prefix = routes[0]
        else:
            self.batches = self.group = self.prefix = None
        self.others = routes[1:]

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
        self.metric_type = self.native = self.types = self.declared = None
        self.info_claim = None
        self.shard = None

    def __repr__(self):
        return f"<Series {self.name or self.key!r} -> {len(self.routes)} routes>"
