"""The inventory: labels of objects, from manifests and from the stream, by project.

Rules:

* An object belongs to a project, and only exporters of that project ever see its labels. The
  operator says which project a file is for; an info series belongs to the project that any series
  with its labels would.
* A manifest tells all labels of its object exactly, so where there is one, the stream is not asked.
* Of several info series of one object, the one that began last counts. One that is merely seen
  again takes over when it is seen twice without the other in between: a series that ends is seen
  once more, with its stale marker, and labels may also be changed back to what they were.
* What the stream says is bounded by ``objects_max``, shared out among projects: of a project that
  must give way, the object that was not heard of for longest is forgotten.
* What was ever asked for is remembered, known or not. Only a change of an object that was asked for
  can have an effect, and is reported by :meth:`Inventory.take_changed`, by project.
* ``asked_max`` bounds what is remembered as asked for, shared out among projects: of a project that
  must give way every change counts from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from relay.runtime.project_shares import SharedTable, Shares
from relay.selector.inventory.info_series import NAMESPACE_KIND, InfoSeriesClaim, StreamKey
from relay.selector.resources.object_lookup import ObjectLabels, ObjectRef

OBJECTS_MAX: Final = 200_000
K = TypeVar("K")

ASKED_MAX: Final = 200_000
"""Objects that are remembered as asked for."""


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a manifest. ``kind`` as in the manifest; ``group`` is "" for the core."""

    project: str
    group: str
    kind: str
    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]

    @property
    def key(self) -> StreamKey:
        """The object without its API group."""
        return StreamKey(self.project, self.kind.lower(), self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class InventoryStatistics:
    """Objects known now, by where from; ``changes`` since the start that may have an effect."""

    from_manifests: int
    from_stream: int
    asked: int
    changes: int


class UidKey(NamedTuple):
    """An object by what no other object ever had."""

    project: str
    uid: str


_NOTHING: Final = object()
"""The token of every index without objects."""


class ManifestIndex:
    """What all manifests say, ready to be asked; of several objects of one name the first counts.

    Immutable. With many objects it takes a second to build and to compare, which is why it is made
    away from the event loop, and knows which objects differ from its ``base``.
    """

    __slots__ = ("_base", "_by_name", "_by_uid", "_changed", "token")

    def __init__(self, objects: Iterable[Object] = (), base: ManifestIndex | None = None) -> None:
        self._by_name: dict[tuple[str, StreamKey], ObjectLabels] = {}
        self._by_uid: dict[UidKey, ObjectLabels] = {}
        for one in objects:
            labels = ObjectLabels(one.labels)
            self._by_name.setdefault((one.group, one.key), labels)
            if one.uid:
                self._by_uid.setdefault(UidKey(one.project, one.uid), labels)
        # Tokens instead of the indexes themselves, or every index would keep all before it.
        self.token: Final = object() if self._by_name else _NOTHING
        self._base: Final = base.token if base is not None else None
        self._changed: Final = self._differences(base) if base is not None else frozenset()

    def changed_since(self, other: ManifestIndex) -> frozenset[StreamKey | UidKey]:
        """The objects that the two say different things about; at once for the own base."""
        return self._changed if self._base is other.token else self._differences(other)

    def by_name(self, group: str, key: StreamKey) -> ObjectLabels | None:
        """The labels of an object of that API group."""
        return self._by_name.get((group, key))

    def by_uid(self, key: UidKey) -> ObjectLabels | None:
        """The labels of the object that has the uid."""
        return self._by_uid.get(key)

    def _differences(self, other: ManifestIndex) -> frozenset[StreamKey | UidKey]:
        names = _differing(other._by_name, self._by_name)
        return frozenset((*(key for _, key in names), *_differing(other._by_uid, self._by_uid)))

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<ManifestIndex {len(self)} objects>"


@dataclass(slots=True)
class _ObservedLabels:
    """What the stream says of an object, and what it may be about to say instead."""

    labels: ObjectLabels
    rival: Mapping[str, str] | None = None


class Inventory:
    """Labels of objects. Not for several threads at once."""

    def __init__(self, *, objects_max: int = OBJECTS_MAX, asked_max: int = ASKED_MAX) -> None:
        assert objects_max >= 2
        self._manifests = ManifestIndex()
        self._told: SharedTable[StreamKey, _ObservedLabels] = SharedTable(objects_max)
        """What the stream says. Nobody is told when an object is forgotten: it was not heard of."""
        self._claimed: set[str] = {""}
        self._asked: dict[str, set[StreamKey | UidKey]] = {}
        """By project; only exporters ask, so that there are no made-up ones."""
        self._asked_shares = Shares(asked_max)
        self._all_asked: set[str] = set()
        """Projects of which every change counts."""
        self._changed: set[str] = set()
        self._changes = 0
        self.version = 0
        """Moves with everything that the stream says anew."""

    def claim(self, project: str) -> None:
        """Give a project, to which an exporter belongs now, a share of its own."""
        self._claimed.add(project)

    def replace_manifests(self, index: ManifestIndex) -> None:
        """Take this for all that manifests say."""
        changed = index.changed_since(self._manifests)
        for asked in self._asked.values():
            for key in changed & asked:
                self._note(key)
        if self._all_asked:
            for key in changed:
                if key.project in self._all_asked:
                    self._note(key)
        self._manifests = index

    def apply_info_series(self, claim: InfoSeriesClaim, *, begins: bool) -> None:
        """An info series was seen; ``begins``: for the first time."""
        key = claim.key
        part = self._told.part(key.project, claimed=key.project in self._claimed)
        heard = part.find(key)
        if heard is None:
            self._told.add(part, key, _ObservedLabels(ObjectLabels(claim.labels, exact=False)))
            self.version += 1
            self._note(key)
            return
        part.touch(key)
        if claim.labels == heard.labels.labels:
            heard.rival = None
        elif begins or claim.labels == heard.rival:
            heard.labels = ObjectLabels(claim.labels, exact=False)
            heard.rival = None
            self.version += 1
            self._note(key)
        else:
            heard.rival = claim.labels

    def info_claims(self) -> list[InfoSeriesClaim]:
        """What the stream said, as far as it is remembered; the least recent first."""
        return [
            InfoSeriesClaim(key, heard.labels.labels)
            for part in self._told.parts()
            for half in (part.old, part.young)
            for key, heard in half.items()
        ]

    def for_project(self, project: str) -> ProjectObjects:
        """The objects of one project, now and in future."""
        return ProjectObjects(self, project)

    def namespace(self, project: str, name: str) -> ObjectLabels | None:
        """The labels of a namespace; None where it is not known."""
        key = StreamKey(project, NAMESPACE_KIND, "", name)
        self._ask(key)
        return self._manifests.by_name("", key) or self._heard(key)

    def resource(self, project: str, ref: ObjectRef) -> ObjectLabels | None:
        """The labels of an object, by its uid where a manifest has that, else by its names."""
        if ref.uid:
            uid = UidKey(project, ref.uid)
            self._ask(uid)
            found = self._manifests.by_uid(uid)
            if found is not None:
                return found
        if not ref.name:
            return None
        heard: ObjectLabels | None = None
        for kind in ref.kinds:
            key = StreamKey(project, kind, ref.namespace, ref.name)
            self._ask(key)
            found = self._manifests.by_name(ref.group, key)
            if found is not None:
                return found
            heard = heard or self._heard(key)
        return heard

    def take_changed(self) -> set[str]:
        """The projects of which objects that were asked for have changed since the last call."""
        changed = self._changed
        if changed:
            self._changed = set()
        return changed

    def statistics(self) -> InventoryStatistics:
        """A snapshot."""
        return InventoryStatistics(
            len(self._manifests), len(self._told), self._asked_shares.total, self._changes
        )

    def _heard(self, key: StreamKey) -> ObjectLabels | None:
        heard = self._told.find(key.project, key)
        return heard.labels if heard is not None else None

    def _ask(self, key: StreamKey | UidKey) -> None:
        project = key.project
        asked = self._asked.get(project)
        if asked is None:
            if project in self._all_asked:
                return
            asked = self._asked[project] = set()
        elif key in asked:
            return
        giver = self._asked_shares.gives_way(project)
        if giver is not None:
            self._asked_shares.remove(giver, len(self._asked.pop(giver)))
            self._all_asked.add(giver)
        if giver != project:
            asked.add(key)
            self._asked_shares.add(project)

    def _note(self, key: StreamKey | UidKey) -> None:
        project = key.project
        if project in self._all_asked or key in self._asked.get(project, ()):
            self._changed.add(project)
            self._changes += 1

    def __repr__(self) -> str:
        return (
            f"<Inventory {len(self._manifests)} from manifests, {len(self._told)} from the stream>"
        )


class ProjectObjects:
    """One project's view of the inventory."""

    __slots__ = ("_inventory", "_project")

    def __init__(self, inventory: Inventory, project: str) -> None:
        self._inventory = inventory
        self._project = project

    def namespace(self, name: str) -> ObjectLabels | None:
        """See :meth:`Inventory.namespace`."""
        return self._inventory.namespace(self._project, name)

    def resource(self, ref: ObjectRef) -> ObjectLabels | None:
        """See :meth:`Inventory.resource`."""
        return self._inventory.resource(self._project, ref)

    def __repr__(self) -> str:
        return f"<ProjectObjects {self._project!r} {self._inventory!r}>"


def _differing(before: Mapping[K, ObjectLabels], after: Mapping[K, ObjectLabels]) -> Iterator[K]:
    """The keys whose labels differ, or that only one of the two has."""
    yield from (key for key in before if key not in after)
    yield from (key for key, labels in after.items() if before.get(key) != labels)
