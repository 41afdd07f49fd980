"""The inventory: labels of objects by project, from manifests and from info series.

* Only exporters of an object's project may see its labels. The operator assigns files to projects;
  an info series belongs to the project of any series with its labels.
* A manifest has all labels of its object, so it takes precedence over the stream.
* Of several info series of an object the newest counts. An older one takes over when seen twice
  without the other in between: a series that ends is seen once more, with its stale marker, but
  labels may also change back.
* Observed objects are bounded by ``objects_max`` and keys asked for by ``asked_max``, both divided
  among projects. A project that exceeds its share of objects forgets the least recently observed;
  one that exceeds its share of keys has every change reported from then on.
* :meth:`Inventory.take_changed` reports changes of objects that were asked for, by project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import msgspec

from relay.runtime.project_shares import SharedTable, Shares
from relay.selector.inventory.info_series import NAMESPACE_KIND, InfoSeriesClaim, StreamKey
from relay.selector.resources.object_lookup import ObjectLabels, ObjectRef

OBJECTS_MAX: Final = 200_000
K = TypeVar("K")

ASKED_MAX: Final = 200_000
"""Most keys remembered as asked for."""


class Object(msgspec.Struct, frozen=True):
    """One object of a manifest. ``kind`` is as in the manifest; ``group`` is "" for the core."""

    project: str
    group: str
    kind: str
    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]

    @property
    def key(self) -> StreamKey:
        """The object's identity without API group."""
        return StreamKey(self.project, self.kind.lower(), self.namespace, self.name)


class InventoryStatistics(msgspec.Struct, frozen=True):
    """Objects known now, by origin; ``changes`` since the start that may have an effect."""

    from_manifests: int
    from_stream: int
    asked: int
    changes: int


class UidKey(NamedTuple):
    """Identity of an object by its uid, which is never reused."""

    project: str
    uid: str


_NOTHING: Final = object()
"""Token of every index without objects."""


class ManifestIndex:
    """Immutable index of the objects in all manifests; of several with one name the first counts.

    With many objects, building and comparing take a second: build it in a thread, with the current
    index as ``base`` to precompute the differences.
    """

    __slots__ = ("_base", "_below", "_by_name", "_by_uid", "_changed", "token")

    def __init__(self, objects: Iterable[Object] = (), base: ManifestIndex | None = None) -> None:
        self._by_name: dict[tuple[str, StreamKey], ObjectLabels] = {}
        self._by_uid: dict[UidKey, ObjectLabels] = {}
        self._below: ManifestIndex | None = None
        for one in objects:
            self._add(one)
        # Tokens instead of indexes, or every index would keep all its predecessors alive.
        self.token: object = object() if self._by_name else _NOTHING
        self._base: object = base.token if base is not None else None
        self._changed = self._differences(base) if base is not None else frozenset()

    def _add(self, one: Object) -> None:
        labels = ObjectLabels(one.labels)
        self._by_name.setdefault((one.group, one.key), labels)
        if one.uid:
            self._by_uid.setdefault(UidKey(one.project, one.uid), labels)

    def with_changes(self, removed: Iterable[Object], added: Iterable[Object]) -> ManifestIndex:
        """Return an index without and then with these objects; its differences to this are known.

        No object may have its name or uid in common with another one.
        """
        assert self._below is None, "only a plain index is changed"
        changed = ManifestIndex()
        changed._by_name, changed._by_uid = dict(self._by_name), dict(self._by_uid)
        keys: set[StreamKey | UidKey] = set()
        for one in removed:
            changed._by_name.pop((one.group, one.key), None)
            changed._by_uid.pop(UidKey(one.project, one.uid), None)
            keys |= {one.key, UidKey(one.project, one.uid)}
        for one in added:
            changed._add(one)
            keys |= {one.key, UidKey(one.project, one.uid)}
        changed.token = object() if changed._by_name else _NOTHING
        changed._base, changed._changed = self.token, frozenset(keys)
        return changed

    def over(self, below: ManifestIndex, base: ManifestIndex | None = None) -> ManifestIndex:
        """Return this index with another one below it, whose objects count where this has none.

        ``base`` is the last such index; its differences are known if both parts' are.
        """
        assert self._below is None, "there are two layers at most"
        both = ManifestIndex()
        both._by_name, both._by_uid, both._below = self._by_name, self._by_uid, below
        both.token = (self.token, below.token)
        if base is not None:
            both._note_changes(self, base)
        return both

    def _note_changes(self, above: ManifestIndex, base: ManifestIndex) -> None:
        """Precompute the differences of two layers to those of another index, part by part."""
        below, under = self._below, base._below
        if below is None or under is None:
            return
        assert isinstance(base.token, tuple), "an index of two layers has two tokens"
        self._base = base.token
        self._changed = above.own_changes(base.token[0], base) | below.own_changes(
            base.token[1], under
        )

    def own_changes(self, token: object, other: ManifestIndex) -> frozenset[StreamKey | UidKey]:
        """Return the objects of this layer that differ from the layer that had a token.

        ``other`` is that layer, with or without another one below it.
        """
        if token is self.token:
            return frozenset()
        return self._changed if self._base is token else self._own_differences(other)

    def changed_since(self, other: ManifestIndex) -> frozenset[StreamKey | UidKey]:
        """Return the objects that differ between the two; precomputed for the base."""
        return self._changed if self._base is other.token else self._differences(other)

    def by_name(self, group: str, key: StreamKey) -> ObjectLabels | None:
        """Return the labels of an object of that API group, or None."""
        found = self._by_name.get((group, key))
        return (
            found if found is not None or self._below is None else self._below.by_name(group, key)
        )

    def by_uid(self, key: UidKey) -> ObjectLabels | None:
        """Return the labels of the object with the uid, or None."""
        found = self._by_uid.get(key)
        return found if found is not None or self._below is None else self._below.by_uid(key)

    def _differences(self, other: ManifestIndex) -> frozenset[StreamKey | UidKey]:
        now: ManifestIndex = self._flat()
        return now._own_differences(other._flat())

    def _own_differences(self, other: ManifestIndex) -> frozenset[StreamKey | UidKey]:
        names = _differing(other._by_name, self._by_name)
        return frozenset((*(key for _, key in names), *_differing(other._by_uid, self._by_uid)))

    def _flat(self) -> ManifestIndex:
        if self._below is None:
            return self
        below: ManifestIndex = self._below
        flat = ManifestIndex()
        flat._by_name = {**below._by_name, **self._by_name}
        flat._by_uid = {**below._by_uid, **self._by_uid}
        return flat

    def __len__(self) -> int:
        return len(self._by_name) + (len(self._below) if self._below is not None else 0)

    def __repr__(self) -> str:
        return f"<ManifestIndex {len(self)} objects>"


@dataclass(slots=True)
class _ObservedLabels:
    """Labels of an object from the stream, and labels that may be about to replace them."""

    labels: ObjectLabels
    candidate: Mapping[str, str] | None = None


class Inventory:
    """Labels of objects. Not thread-safe."""

    def __init__(self, *, objects_max: int = OBJECTS_MAX, asked_max: int = ASKED_MAX) -> None:
        assert objects_max >= 2
        self._manifests = ManifestIndex()
        self._observed: SharedTable[StreamKey, _ObservedLabels] = SharedTable(objects_max)
        """Labels from the stream. Evicting an object is not a change: it was not observed for
        long."""
        self._claimed: set[str] = {""}
        self._asked: dict[str, set[StreamKey | UidKey]] = {}
        """Keys asked for, by project; only exporters ask, so all projects are real."""
        self._asked_shares = Shares(asked_max)
        self._all_asked: set[str] = set()
        """Projects of which every change is reported."""
        self._changed: set[str] = set()
        self._changes = 0
        self.version = 0
        """Incremented with every change from the stream."""

    @property
    def changes(self) -> int:
        """Changes since the start of objects that were asked for."""
        return self._changes

    def claim(self, project: str) -> None:
        """Give a project with an exporter a share of its own."""
        self._claimed.add(project)

    def replace_manifests(self, index: ManifestIndex) -> None:
        """Replace everything known from manifests."""
        changed = index.changed_since(self._manifests)
        for asked in self._asked.values():
            for key in changed & asked:
                self._record_change(key)
        if self._all_asked:
            for key in changed:
                if key.project in self._all_asked:
                    self._record_change(key)
        self._manifests = index

    def apply_info_series(self, claim: InfoSeriesClaim, *, begins: bool) -> None:
        """Apply the labels of an info series; ``begins``: it is seen for the first time."""
        key = claim.key
        part = self._observed.part(key.project, claimed=key.project in self._claimed)
        observed = part.find(key)
        if observed is None:
            self._observed.add(part, key, _ObservedLabels(ObjectLabels(claim.labels, exact=False)))
            self.version += 1
            self._record_change(key)
            return
        part.touch(key)
        if claim.labels == observed.labels.labels:
            observed.candidate = None
        elif begins or claim.labels == observed.candidate:
            observed.labels = ObjectLabels(claim.labels, exact=False)
            observed.candidate = None
            self.version += 1
            self._record_change(key)
        else:
            observed.candidate = claim.labels

    def forget(self, project: str, most: int) -> int:
        """Forget labels of up to so many objects of a project that is gone; return how many."""
        count = self._observed.forget(project, most)
        self.version += bool(count)
        return count

    def info_claims(self) -> list[InfoSeriesClaim]:
        """Return the labels known from the stream, least recently observed first."""
        return [
            InfoSeriesClaim(key, observed.labels.labels)
            for part in self._observed.parts()
            for half in (part.old, part.young)
            for key, observed in half.items()
        ]

    def for_project(self, project: str) -> ProjectObjects:
        """Return a view of one project's objects, which follows later changes."""
        return ProjectObjects(self, project)

    def namespace(self, project: str, name: str, *, ask: bool = True) -> ObjectLabels | None:
        """Return the labels of a namespace; None if unknown. ``ask``: report its changes."""
        key = StreamKey(project, NAMESPACE_KIND, "", name)
        if ask:
            self._ask(key)
        return self._manifests.by_name("", key) or self._observed_labels(key)

    def resource(self, project: str, ref: ObjectRef, *, ask: bool = True) -> ObjectLabels | None:
        """Return an object's labels, by uid if a manifest has it, else by name; None if unknown.

        ``ask``: report its changes.
        """
        if ref.uid:
            uid = UidKey(project, ref.uid)
            if ask:
                self._ask(uid)
            found = self._manifests.by_uid(uid)
            if found is not None:
                return found
        if not ref.name:
            return None
        observed: ObjectLabels | None = None
        for kind in ref.kinds:
            key = StreamKey(project, kind, ref.namespace, ref.name)
            if ask:
                self._ask(key)
            found = self._manifests.by_name(ref.group, key)
            if found is not None:
                return found
            observed = observed or self._observed_labels(key)
        return observed

    def take_changed(self) -> set[str]:
        """Return the projects with a relevant change since the last call."""
        changed = self._changed
        if changed:
            self._changed = set()
        return changed

    def statistics(self) -> InventoryStatistics:
        """Return a snapshot."""
        return InventoryStatistics(
            len(self._manifests), len(self._observed), self._asked_shares.total, self._changes
        )

    def _observed_labels(self, key: StreamKey) -> ObjectLabels | None:
        observed = self._observed.find(key.project, key)
        return observed.labels if observed is not None else None

    def _ask(self, key: StreamKey | UidKey) -> None:
        project = key.project
        asked = self._asked.get(project)
        if asked is None:
            if project in self._all_asked:
                return
            asked = self._asked[project] = set()
        elif key in asked:
            return
        giver = self._asked_shares.must_evict(project)
        if giver is not None:
            self._asked_shares.remove(giver, len(self._asked.pop(giver)))
            self._all_asked.add(giver)
        if giver != project:
            asked.add(key)
            self._asked_shares.add(project)

    def _record_change(self, key: StreamKey | UidKey) -> None:
        project = key.project
        if project in self._all_asked or key in self._asked.get(project, ()):
            self._changed.add(project)
            self._changes += 1

    def __repr__(self) -> str:
        return f"<Inventory {len(self._manifests)} from manifests, {len(self._observed)} observed>"


class ProjectObjects:
    """One project's view of the inventory."""

    __slots__ = ("_inventory", "_project")

    def __init__(self, inventory: Inventory, project: str) -> None:
        self._inventory = inventory
        self._project = project

    def namespace(self, name: str) -> ObjectLabels | None:
        """Return the labels of a namespace; None if unknown."""
        return self._inventory.namespace(self._project, name)

    def resource(self, ref: ObjectRef) -> ObjectLabels | None:
        """Return the labels of an object; None if unknown."""
        return self._inventory.resource(self._project, ref)

    def __repr__(self) -> str:
        return f"<ProjectObjects {self._project!r} {self._inventory!r}>"


def _differing(before: Mapping[K, ObjectLabels], after: Mapping[K, ObjectLabels]) -> Iterator[K]:
    """Yield the keys whose labels differ or that only one of the two has."""
    yield from (key for key in before if key not in after)
    yield from (key for key, labels in after.items() if before.get(key) != labels)
