"""series.py with fields of fixed types; the same class, the same rules.

* A chain of a million series, each the guess of the one before it, must not be freed by recursion:
  that cannot be said in Python, so this is no ``.pxd`` beside the plain module.
* Nearly every series has one route or none, and the kernel reads it of every sample: its three
  parts are fields, and only further ones are tuples.
"""

cimport cython

from relay.pipeline.plans import UNMATCHED


@cython.trashcan(True)
cdef class Series:
    """See series.py."""

    def __init__(self, bytes key not None):
        self.key = key
        self.generation = -1
        self.resolved = -1
        self.plan = UNMATCHED
        self.others = ()
        self.handlers = ()
        self.facts = ()
        self.name = ""
        self.fault = ""

    @property
    def routes(self):
        """See series.py."""
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
        """See series.py."""
        self.key = key
        self.next = None
        self.generation = -1
        self.plan = UNMATCHED
        self.routes = ()
        self.handlers = ()
        self.facts = ()
        self.typing = self.native = None
        self.claim = None
        self.shard = None

    def __repr__(self):
        return f"<Series {self.name or self.key!r} -> {len(self.routes)} routes>"
