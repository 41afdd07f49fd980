"""The metrics, scopes and resources of OTLP requests, encoded once and shared by their points.

* A point buffer reads a group for every row of its points, and scraped series have rows of fewer
  than two: the module is compiled, so that this costs no look-up of attributes.
* Groups refer to encoded bytes and upwards only, never back: they are no business of the cyclic
  garbage collector, which would take 16 bytes for each. There is one for every two scraped series.
"""

cimport cython
from libc.stdint cimport uint32_t

from functools import lru_cache
from zlib import crc32

from relay.codec.otlp.metrics import DATA_TAG, key_value, stale_prefix
from relay.codec.protobuf import field_bytes

_SHARED_MAX = 1_024
_SHARED_CHARS_MAX = 256
"""Number and length, in characters, of the resource attributes and scopes that are cached."""


@lru_cache(maxsize=_SHARED_MAX)
def _resource_attribute(str key, str value):
    """Encode one Resource.attributes (1)."""
    return field_bytes(b"\x0a", key_value(key, value))


@lru_cache(maxsize=_SHARED_MAX)
def _plain_scope(str name, str version):
    return _scope(name, version, (), "")


def _scope(str name, str version, attributes, str schema_url):
    """Encode ScopeMetrics.scope (1) and schema_url (3)."""
    body = field_bytes(b"\x0a", name.encode()) if name else b""
    if version:
        body += field_bytes(b"\x12", version.encode())
    body += b"".join([field_bytes(b"\x1a", key_value(key, value)) for key, value in attributes])
    encoded = field_bytes(b"\x0a", body)
    return encoded + field_bytes(b"\x1a", schema_url.encode()) if schema_url else encoded


_LASTING_ATTRIBUTES = frozenset({"service.name", "service.namespace", "service.instance.id"})
"""Resource attributes derived from the labels ``job`` and ``instance``; they never change."""


cdef uint32_t CRC_POLYNOMIAL = 0xEDB88320  # zlib's, the lowest power in the highest bit


cdef uint32_t crc_of_four_bits[16]  # that are shifted out


cdef inline uint32_t times_x(uint32_t one) noexcept:
    return (one >> 1) ^ (CRC_POLYNOMIAL & (<uint32_t>0 - (one & 1)))


for _bits in range(16):
    crc_of_four_bits[_bits] = times_x(times_x(times_x(times_x(_bits))))


cdef uint32_t product(uint32_t one, uint32_t other) noexcept:
    """Multiply two polynomials modulo that of the CRC, four bits of the first at a time."""
    cdef uint32_t multiples[16]
    cdef uint32_t found = 0
    cdef int at, power, rest
    multiples[0] = 0
    for at in range(4):
        multiples[8 >> at] = other
        other = times_x(other)
    for at in range(1, 4):
        power = 1 << at
        for rest in range(1, power):
            multiples[power + rest] = multiples[power] ^ multiples[rest]
    for _ in range(8):  # from the highest powers on
        found = (found >> 4) ^ crc_of_four_bits[found & 15] ^ multiples[one & 15]
        one >>= 4
    return found


cdef uint32_t crc_shift(Py_ssize_t size) noexcept:
    """Return the factor that :func:`crc_behind` takes for ``size`` bytes: x^(8 size)."""
    cdef uint32_t found = <uint32_t>1 << 31, power = <uint32_t>1 << 23
    while size:
        if size & 1:
            found = product(found, power)
        power = product(power, power)
        size >>= 1
    return found


cdef uint32_t crc_behind(uint32_t before, uint32_t crc, uint32_t shift) noexcept:
    """Return the CRC of two byte strings in a row; ``crc`` and ``shift`` are the second's."""
    return product(shift, before) ^ crc


cdef class Numbered:
    """An object that a request numbers by first appearance, without a table of its own."""


@cython.no_gc
cdef class ResourceGroup(Numbered):
    """One resource, encoded. Compared by identity: the caller must intern it by attributes."""

    def __init__(self, attributes):
        pairs = list(attributes)
        body = b"".join(
            [
                _resource_attribute(key, value)
                if len(key) + len(value) <= _SHARED_CHARS_MAX
                else _resource_attribute.__wrapped__(key, value)
                for key, value in pairs
            ]
        )
        self.shard_key = crc32(b"".join(v.encode() for k, v in pairs if k in _LASTING_ATTRIBUTES))
        self.encoded = field_bytes(b"\x0a", body)

    @staticmethod
    def as_came(bytes head not None):
        """Return a resource whose ResourceMetrics message begins with these bytes."""
        cdef ResourceGroup made = ResourceGroup.__new__(ResourceGroup)
        made.shard_key = crc32(head)
        made.encoded = head
        return made


@cython.no_gc
cdef class ScopeGroup(Numbered):
    """One instrumentation scope of one resource, encoded. Compared by identity."""

    def __init__(
        self,
        ResourceGroup resource not None,
        str name not None,
        str version not None="",
        attributes=(),
        str schema_url not None="",
    ):
        self.resource = resource
        if attributes or schema_url or len(name) + len(version) > _SHARED_CHARS_MAX:
            self.encoded = _scope(name, version, attributes, schema_url)
        else:
            self.encoded = _plain_scope(name, version)

    @staticmethod
    def as_came(ResourceGroup resource not None, bytes head not None):
        """Return a scope whose ScopeMetrics message begins with these bytes."""
        cdef ScopeGroup made = ScopeGroup.__new__(ScopeGroup)
        made.resource = resource
        made.encoded = head
        return made


@cython.no_gc
cdef class MetricGroup(Numbered):
    """One Metric of one scope, ready to wrap its points. Compared by identity.

    ``shard_key`` selects the shard of its points. It depends only on what never changes for a
    series (not on metadata or ``target_info``), so all points of a metric share one request.
    """

    def __init__(self, ScopeGroup scope not None, identity):
        self.scope = scope
        self.identity = identity
        self.shard_key = crc32(identity.name.encode(), scope.resource.shard_key)
        self.head = identity.head
        self.data_tag = DATA_TAG[identity.kind]
        self.data_tail = identity.data_tail

    @staticmethod
    def as_came(ScopeGroup scope not None, identity, bytes head not None, bytes tail=None):
        """Return a metric whose message begins with ``head``, and its data ends with ``tail``.

        Without a tail the data ends as the identity says.
        """
        cdef MetricGroup made = MetricGroup(scope, identity)
        made.head = head
        if tail is not None:
            made.data_tail = tail
        return made

    def stale_prefix(self, bytes prefix not None):
        """Return the prefix of a point whose value is the stale marker."""
        return stale_prefix(prefix)

    def __repr__(self):
        return f"<MetricGroup {self.identity.name} {self.identity.kind}>"
