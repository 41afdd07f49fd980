"""Hold the objects of one resource, and the changes that nobody has taken yet. Pure.

Rules:

* A change is between what was taken last and what is now: several changes of one object become
  one, and what came and went in between is none at all.
* An object that was deleted and made again under its name is two changes, the removal first, even
  if a watch or a list shows only the second object: the uid tells.
* A list that is complete replaces everything; what it lacks is removed. So no deletion is lost,
  however long nobody watched.
* A change of status or ``resourceVersion`` alone is kept, but is no change to be taken.
* Objects over the limits are refused and named; those that are here stay. One namespace may have an
  eighth of the bytes, so that its owner takes no room from the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from relay.control.kubernetes.objects import ApiObject, ObjectKey, Verb

OBJECTS_MAX = 100_000
STORE_BYTES_MAX = 256 * 1024 * 1024
NAMESPACE_SHARE = 8
"""A namespace may have this part of the bytes."""
REFUSED_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One change: an object that came (no ``before``), changed, or went (no ``after``).

    ``before`` and ``after`` have the same uid.
    """

    before: ApiObject | None
    after: ApiObject | None


@dataclass(frozen=True, slots=True)
class ObjectStoreStatistics:
    """Objects and their bytes, those refused for the limits, and the changes not taken yet."""

    objects: int
    bytes: int
    refused: int
    refused_names: tuple[str, ...]
    pending: int


class ObjectStore:
    """The objects of one resource by namespace and name."""

    def __init__(self, *, objects_max: int = OBJECTS_MAX, bytes_max: int = STORE_BYTES_MAX) -> None:
        self._objects_max = objects_max
        self._bytes_max = bytes_max
        self._objects: dict[ObjectKey, ApiObject] = {}
        self._bytes = 0
        self._namespace_bytes: dict[str, int] = {}
        self._taken: dict[ObjectKey, ApiObject | None] = {}
        """For each object with a change to be taken: as it was taken last."""
        self._refused: dict[ObjectKey, None] = {}

    @property
    def objects(self) -> Mapping[ObjectKey, ApiObject]:
        """All objects; not to be changed."""
        return self._objects

    @property
    def has_changes(self) -> bool:
        """True if a change is to be taken."""
        return bool(self._taken)

    @property
    def is_incomplete(self) -> bool:
        """True if objects were refused, and a new list may have room for them."""
        return bool(self._refused)

    def apply(self, verb: Verb, given: ApiObject) -> None:
        """Apply one event of a watch."""
        if verb == "DELETED":
            self._refused.pop(given.key, None)
            self._set(given.key, None)
        else:
            self._put(given)

    def replace(self, listed: Iterable[ApiObject], *, keep: Iterable[ObjectKey] = ()) -> None:
        """Make the objects those of a complete list; ``keep`` are listed, but unusable now."""
        for _ in self.replacing(listed, keep=keep):
            pass

    def replacing(
        self, listed: Iterable[ApiObject], *, keep: Iterable[ObjectKey] = ()
    ) -> Iterator[None]:
        """Do the same in steps, and yield after each: one object, or a look at all names.

        Changes may be taken between steps. Nothing else may be applied before the last one.
        """
        self._refused.clear()
        wanted = {one.key: one for one in listed}
        yield
        staying = {*wanted, *keep}
        yield
        for key in [key for key in self._objects if key not in staying]:
            self._set(key, None)
            yield
        for one in wanted.values():
            self._put(one)
            yield

    def offer_all(self) -> None:
        """Make every object a change to be taken, as if nothing was taken before."""
        self._taken = dict.fromkeys(self._objects)

    def restore(self, objects: Iterable[ApiObject]) -> None:
        """Put objects into an empty store without changes to be taken."""
        assert not self._objects, "only an empty store is restored"
        for one in objects:
            self._put(one)
        self._taken.clear()

    def take(self, changes_max: int) -> tuple[ObjectChange, ...]:
        """Return up to ``changes_max`` objects' changes, the oldest first, and forget them."""
        found: list[ObjectChange] = []
        for key in list(_first(self._taken, changes_max)):
            before = self._taken.pop(key)
            after = self._objects.get(key)
            if before is not None and after is not None and before.uid != after.uid:
                found += [ObjectChange(before, None), ObjectChange(None, after)]
            else:
                found.append(ObjectChange(before, after))
        return tuple(found)

    def statistics(self) -> ObjectStoreStatistics:
        """Return a snapshot."""
        names = ("/".join(filter(None, key)) for key in _first(self._refused, REFUSED_SHOWN_MAX))
        return ObjectStoreStatistics(
            len(self._objects), self._bytes, len(self._refused), tuple(names), len(self._taken)
        )

    def _put(self, given: ApiObject) -> None:
        known = self._objects.get(given.key)
        grown = _size(given) - (_size(known) if known else 0)
        too_many = known is None and len(self._objects) >= self._objects_max
        if too_many or (grown > 0 and self._lacks_room(given.namespace, grown)):
            self._refused[given.key] = None
            if known is not None and known.uid != given.uid:
                self._set(given.key, None)  # that one is gone, whatever comes in its place
            return
        self._refused.pop(given.key, None)
        self._set(given.key, given)

    def _lacks_room(self, namespace: str, grown: int) -> bool:
        if self._bytes + grown > self._bytes_max:
            return True
        share = self._bytes_max // NAMESPACE_SHARE
        return bool(namespace) and self._namespace_bytes.get(namespace, 0) + grown > share

    def _set(self, key: ObjectKey, after: ApiObject | None) -> None:
        before = self._objects.get(key)
        if after is None:
            if before is None:
                return
            del self._objects[key]
        else:
            self._objects[key] = after
        one = after or before
        assert one is not None, "something is set or taken away"
        self._resize(
            one.namespace, (_size(after) if after else 0) - (_size(before) if before else 0)
        )
        if key not in self._taken:
            if not _is_same(before, after):
                self._taken[key] = before
        elif _is_same(self._taken[key], after):
            del self._taken[key]

    def _resize(self, namespace: str, grown: int) -> None:
        self._bytes += grown
        left = self._namespace_bytes.get(namespace, 0) + grown
        if left:
            self._namespace_bytes[namespace] = left
        else:
            self._namespace_bytes.pop(namespace, None)

    def __repr__(self) -> str:
        return f"<ObjectStore {len(self._objects)} objects, {len(self._taken)} changes>"


def _is_same(one: ApiObject | None, other: ApiObject | None) -> bool:
    """Return whether there is nothing to be taken between two states of an object."""
    if one is None or other is None:
        return one is other
    return one.uid == other.uid and one.content == other.content


def _size(one: ApiObject) -> int:
    return len(one.content) + len(one.status)


def _first(keys: Iterable[ObjectKey], count: int) -> Iterator[ObjectKey]:
    for _, key in zip(range(count), keys, strict=False):
        yield key
