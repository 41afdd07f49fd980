"""The inventory: labels of objects, from manifests and from the stream, by project.

Rules:

* An object belongs to a project, and only exporters of that project ever see its labels. The
  operator says which project a file is for; an info series belongs to the project that any series
  with its labels would.
* A manifest tells all labels of its object exactly, so where there is one, the stream is not asked.
* Of several info series of one object, the one that began last counts. One that is merely seen
  again takes over when it is seen twice without the other in between: a series that ends is seen
  once more, with its stale marker, and labels may also be changed back to what they were.
* What the stream says is bounded by ``objects_max``: an object not heard of for a whole rotation
  is forgotten, as series are in the series table.
* What was ever asked for is remembered, known or not. Only a change of an object that was asked for
  can have an effect, and is reported by :meth:`Inventory.take_changed`, by project.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from relay.inventory.info_series import NAMESPACE_KIND, Claim, StreamKey
from relay.selector.objects import ObjectLabels, ObjectRef

OBJECTS_MAX: Final = 200_000
K = TypeVar("K")

ASKED_MAX: Final = 200_000
"""Objects that are remembered as asked for; beyond that, every change counts as one of those."""


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


class _UidKey(NamedTuple):
    project: str
    uid: str


@dataclass(slots=True)
class _Heard:
    """What the stream says of an object, and what it may be about to say instead."""

    labels: ObjectLabels
    rival: Mapping[str, str] | None = None


class Inventory:
    """Labels of objects. Not for several threads at once."""

    def __init__(self, *, objects_max: int = OBJECTS_MAX) -> None:
        assert objects_max >= 2
        self._half: Final = objects_max // 2
        self._manifests: dict[tuple[str, StreamKey], ObjectLabels] = {}
        self._by_uid: dict[_UidKey, ObjectLabels] = {}
        self._young: dict[StreamKey, _Heard] = {}
        self._old: dict[StreamKey, _Heard] = {}
        self._asked: set[StreamKey | _UidKey] = set()
        self._all_asked = False
        self._changed: set[str] = set()
        self._changes = 0

    def replace_manifests(self, objects: Iterable[Object]) -> None:
        """Take these for all that manifests say; of several with one name the first counts."""
        manifests: dict[tuple[str, StreamKey], ObjectLabels] = {}
        by_uid: dict[_UidKey, ObjectLabels] = {}
        for one in objects:
            labels = ObjectLabels(one.labels)
            manifests.setdefault((one.group, one.key), labels)
            if one.uid:
                by_uid.setdefault(_UidKey(one.project, one.uid), labels)
        for place in _differences(self._manifests, manifests):
            self._note(place[1])
        for uid in _differences(self._by_uid, by_uid):
            self._note(uid)
        self._manifests = manifests
        self._by_uid = by_uid

    def hear(self, claim: Claim, *, begins: bool) -> None:
        """An info series was seen; ``begins``: for the first time."""
        key = claim.key
        heard = self._young.get(key)
        if heard is None:
            heard = self._old.pop(key, None)
            if heard is None:
                self._keep(key, _Heard(ObjectLabels(claim.labels, exact=False)))
                self._note(key)
                return
            self._keep(key, heard)
        if claim.labels == heard.labels.labels:
            heard.rival = None
        elif begins or claim.labels == heard.rival:
            heard.labels = ObjectLabels(claim.labels, exact=False)
            heard.rival = None
            self._note(key)
        else:
            heard.rival = claim.labels

    def of(self, project: str) -> ProjectObjects:
        """The objects of one project, now and in future."""
        return ProjectObjects(self, project)

    def namespace(self, project: str, name: str) -> ObjectLabels | None:
        """The labels of a namespace; None where it is not known."""
        key = StreamKey(project, NAMESPACE_KIND, "", name)
        self._ask(key)
        return self._manifests.get(("", key)) or self._heard(key)

    def resource(self, project: str, ref: ObjectRef) -> ObjectLabels | None:
        """The labels of an object, by its uid where a manifest has that, else by its names."""
        if ref.uid:
            uid = _UidKey(project, ref.uid)
            self._ask(uid)
            found = self._by_uid.get(uid)
            if found is not None:
                return found
        if not ref.name:
            return None
        heard: ObjectLabels | None = None
        for kind in ref.kinds:
            key = StreamKey(project, kind, ref.namespace, ref.name)
            self._ask(key)
            found = self._manifests.get((ref.group, key))
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
            len(self._manifests), len(self._young) + len(self._old), len(self._asked), self._changes
        )

    def _heard(self, key: StreamKey) -> ObjectLabels | None:
        heard = self._young.get(key) or self._old.get(key)
        return heard.labels if heard is not None else None

    def _keep(self, key: StreamKey, heard: _Heard) -> None:
        if len(self._young) >= self._half:
            self._old = self._young
            self._young = {}
        self._young[key] = heard

    def _ask(self, key: StreamKey | _UidKey) -> None:
        if len(self._asked) >= ASKED_MAX:
            self._all_asked = True
            self._asked.clear()
        self._asked.add(key)

    def _note(self, key: StreamKey | _UidKey) -> None:
        if self._all_asked or key in self._asked:
            self._changed.add(key.project)
            self._changes += 1

    def __repr__(self) -> str:
        heard = len(self._young) + len(self._old)
        return f"<Inventory {len(self._manifests)} from manifests, {heard} from the stream>"


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


def _differences(before: Mapping[K, ObjectLabels], after: Mapping[K, ObjectLabels]) -> list[K]:
    """The keys whose labels differ, or that only one of the two has."""
    gone = [key for key in before if key not in after]
    return gone + [key for key, labels in after.items() if before.get(key) != labels]
