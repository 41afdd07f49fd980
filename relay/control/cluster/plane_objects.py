"""Hold the objects of one control plane as resources: each is read again only when it changes.

Rules:

* An object's project is that of its control plane, or a label of its Namespace. An object whose
  Namespace has no such label is nobody's: it is refused, and its owner told so. One whose Namespace
  is not known yet is left out; one that is being deleted is gone.
* The oldest object comes first, as it claims a name, or a project's budget, before later ones.
* A Secret to which the last good version of an Exporter refers stays referred to while the present
  version is faulty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from relay.config.exporter.load_result import ObjectKey as ResultKey
from relay.config.exporter.load_result import SourceName
from relay.config.exporter.loading.combine import OriginResources
from relay.config.exporter.loading.object_reader import (
    ObjectIdentity,
    read_object_value,
    refused_object,
)
from relay.config.exporter.loading.resource import ManifestResource
from relay.config.exporter.types import Exporter, ResourceKind
from relay.config.schema.checks import dns_subdomain_problem
from relay.control.cluster.resources import EXPORT_POLICIES, EXPORTING, NAMESPACES, SECRETS
from relay.control.kubernetes.objects import ApiObject, ApiResource, ObjectKey
from relay.runtime.errors import Fault
from relay.runtime.event_loop import yield_to_loop
from relay.selector.inventory.store import Object

NO_PROJECT: Final = "NoProject"
"""Reason of the condition of an object whose Namespace has no project."""
Changes = Mapping[ApiResource, Mapping[ObjectKey, ApiObject | None]]
"""Objects that changed, by kind and name; None: gone."""
_Id = tuple[ApiResource, ObjectKey]


@dataclass(slots=True)
class _Read:
    """One object that was read, and what follows from it."""

    object: ApiObject
    resource: ManifestResource
    order: tuple[str, int, ObjectKey]
    references: frozenset[ObjectKey]


class PlaneObjects:
    """The objects of one control plane. Not thread-safe.

    ``name`` is that of the control plane, ``project`` that of all its objects unless
    ``namespace_label`` is set. ``namespaces`` are those whose objects count, all if empty.
    ``source`` is what the control plane belongs to. ``control_plane`` is what owners of queues keep
    of it, the source and the name if "".
    """

    def __init__(
        self,
        name: str,
        project: str,
        *,
        namespace_label: str = "",
        namespaces: tuple[str, ...] = (),
        source: SourceName = "kubernetes",
        control_plane: str = "",
    ) -> None:
        self._source: SourceName = source
        self._name = name
        self._control_plane = control_plane
        self._project = project
        self._label = namespace_label
        self._wanted = frozenset(namespaces)
        self._objects: dict[_Id, ApiObject] = {}
        self._by_namespace: dict[str, set[_Id]] = {}
        self._read: dict[_Id, _Read] = {}
        self._namespaces: dict[str, Object] = {}
        """Namespaces that have a project."""
        self._faults: dict[str, Fault] = {}
        """Of Namespaces."""
        self._nobodys: set[str] = set()
        """Namespaces that are known, and have no project."""
        self._secret_objects: dict[ObjectKey, ApiObject] = {}
        self._secrets: dict[ObjectKey, ManifestResource] = {}
        self._order: list[ManifestResource] | None = None
        """Resources of the objects that were read, in order; None: they are to be sorted again."""
        self._places: dict[_Id, int] = {}
        """Index of each object's resource in ``_order``."""
        self._removed: dict[str, Object] = {}
        """Namespaces that have gone or changed since :meth:`take_namespaces`, as they were then."""
        self._added: dict[str, None] = {}
        self.resources: tuple[ManifestResource, ...] = ()
        """All objects of known Namespaces, and the Secrets that they refer to."""
        self.references: frozenset[ObjectKey] = frozenset()
        """Secrets that they refer to: the same object as long as they are the same."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Faults of Namespaces."""
        return tuple(self._faults[name] for name in sorted(self._faults))

    def apply(self, changes: Changes, secrets: Mapping[ObjectKey, ApiObject | None]) -> bool:
        """Take changes of objects and of Secrets; return whether they make a difference."""
        dirty: dict[_Id, None] = {}
        moved: set[str] = set()
        before = len(self._removed) + len(self._added)
        for key, found in changes.get(NAMESPACES, {}).items():
            if self._set_namespace(key[1], found):
                moved.add(key[1])
                dirty |= dict.fromkeys(self._by_namespace.get(key[1], ()))
        for resource in EXPORTING:
            for key, found in changes.get(resource, {}).items():
                yield_to_loop()
                if not self._wanted or key[0] in self._wanted:
                    self._set_object((resource, key), found)
                    dirty[resource, key] = None
        has_changed = False
        for one in dirty:
            has_changed |= self._read_again(one)
        if has_changed:
            found_in = frozenset().union(*(one.references for one in self._read.values()))
            if found_in != self.references:
                self.references = found_in
        for key, found in secrets.items():
            if found is None:
                self._secret_objects.pop(key, None)
            else:
                self._secret_objects[key] = found
        stale = [key for key in self._secret_objects if key[0] in moved] if moved else []
        for key in dict.fromkeys((*secrets, *stale)):
            has_changed |= self._read_secret(key)
        if has_changed:
            self._collect()
        return has_changed or len(self._removed) + len(self._added) != before

    def keys_of(self, resource: ApiResource) -> list[ObjectKey]:
        """Return the keys of the objects of a kind that are known."""
        if resource == NAMESPACES:
            return [("", name) for name in self._namespaces]
        return [key for kind, key in self._objects if kind == resource]

    def take_namespaces(self) -> tuple[list[Object], list[Object]]:
        """Return the Namespaces that have gone or changed since the last call, and the new ones."""
        added = [self._namespaces[name] for name in self._added if name in self._namespaces]
        removed = list(self._removed.values())
        self._removed, self._added = {}, {}
        return removed, added

    @property
    def namespaces(self) -> tuple[Object, ...]:
        """All Namespaces that have a project."""
        return tuple(self._namespaces.values())

    def _project_of(self, namespace: str) -> str | None:
        """Return the project of a namespace's objects; None if they are nobody's."""
        if not self._label:
            return self._project
        known = self._namespaces.get(namespace)
        return known.project if known is not None else None

    def _set_namespace(self, name: str, found: ApiObject | None) -> bool:
        """Note a Namespace; return whether its objects' project is another one now."""
        before, was = self._namespaces.get(name), (self._project_of(name), name in self._nobodys)
        self._faults.pop(name, None)
        now = self._namespace(found) if found is not None else None
        if now is None and found is not None:
            self._nobodys.add(name)
        else:
            self._nobodys.discard(name)
        if now == before:
            return (name in self._nobodys) != was[1]
        if name not in self._added and before is not None:
            self._removed.setdefault(name, before)
        if now is None:
            self._namespaces.pop(name, None)
            self._added.pop(name, None)
        else:
            self._namespaces[name] = now
            self._added[name] = None
        return (self._project_of(name), name in self._nobodys) != was

    def _namespace(self, found: ApiObject) -> Object | None:
        metadata = found.document().get("metadata")
        labels = metadata.get("labels") if isinstance(metadata, dict) else None
        texts = {
            key: text
            for key, text in (labels.items() if isinstance(labels, dict) else ())
            if isinstance(text, str)
        }
        project = texts.get(self._label, "") if self._label else self._project
        if self._label and not project:
            return None
        problem = dns_subdomain_problem(project) if self._label else ""
        if problem:
            self._faults[found.name] = Fault(
                f'metadata.labels["{self._label}"]',
                f"is not the name of a project: it {problem}; the namespace's objects are not used",
                f"{self._origin}: Namespace {found.name}",
            )
            return None
        return Object(project, "", NAMESPACES.kind, "", found.name, found.uid, texts)

    def _set_object(self, one: _Id, found: ApiObject | None) -> None:
        namespace = one[1][0]
        if found is None or found.deleting:
            self._objects.pop(one, None)
            members = self._by_namespace.get(namespace, set())
            members.discard(one)
            if not members:
                self._by_namespace.pop(namespace, None)
        else:
            self._objects[one] = found
            self._by_namespace.setdefault(namespace, set()).add(one)

    def _read_again(self, one: _Id) -> bool:
        """Read an object as it is now; return whether that made a difference."""
        yield_to_loop()
        resource, (namespace, name) = one
        found, project = self._objects.get(one), self._project_of(namespace)
        known = self._read.get(one)
        if found is None or (project is None and namespace not in self._nobodys):
            if known is not None:
                del self._read[one]
                self._order = None
            return known is not None
        is_same = known is not None and known.resource.project == (project or "")
        if known is not None and is_same and _reads_as(known.object, found):
            known.object = found
            return False
        kind = cast("ResourceKind", resource.kind)
        value = found.document()
        identity = ObjectIdentity(
            kind,
            namespace,
            name,
            project or "",
            self._origin,
            ResultKey(
                self._source,
                self._name,
                kind,
                project or "",
                namespace,
                name,
                resource.group if resource in EXPORT_POLICIES else "",
            ),
            found.uid,
            found.generation,
            self._control_plane,
        )
        made = (
            refused_object(identity, self._nobodys_fault(identity))
            if project is None
            else read_object_value(value, identity)
        )
        references = frozenset(_references(made.exporter or made.draft, namespace))
        has_same_uid = known is not None and known.object.uid == found.uid
        if known is not None and has_same_uid and made.faults and project is not None:
            references |= known.references
        created = value.get("metadata", {}).get("creationTimestamp")
        order = (created if isinstance(created, str) else "", EXPORTING.index(resource), one[1])
        if known is None or known.order != order:
            self._order = None
        elif self._order is not None:
            self._order[self._places[one]] = made
        self._read[one] = _Read(found, made, order, references)
        return True

    def _nobodys_fault(self, identity: ObjectIdentity) -> Fault:
        return Fault(
            "metadata.namespace",
            f"the Namespace {identity.namespace} belongs to no project: have its platform set the "
            f"label {self._label} on it, or create the object in a Namespace that has it",
            f"{self._origin}: {identity.kind} {identity.namespace}/{identity.name}",
            reason=NO_PROJECT,
        )

    def _read_secret(self, key: ObjectKey) -> bool:
        """Read a Secret as it is now; return whether that made a difference."""
        yield_to_loop()
        found, project = self._secret_objects.get(key), self._project_of(key[0])
        if found is None or project is None:
            return self._secrets.pop(key, None) is not None
        identity = ObjectIdentity(SECRETS.kind, *key, project, self._origin)
        self._secrets[key] = read_object_value(found.document(), identity)
        return True

    def _collect(self) -> None:
        if self._order is None:
            ordered = sorted(self._read.items(), key=lambda one: one[1].order)
            self._order = [read.resource for _, read in ordered]
            self._places = {one: place for place, (one, _) in enumerate(ordered)}
        self.resources = (*self._order, *self._secrets.values())

    @property
    def _origin(self) -> str:
        return f"{self._source} {self._name}".rstrip()

    def __repr__(self) -> str:
        return f"<PlaneObjects {self._name}: {len(self._read)} objects>"


def _reads_as(before: ApiObject, after: ApiObject) -> bool:
    """Return whether two versions of an object differ in their finalizers at most."""
    if before.uid != after.uid:
        return False
    if before.content == after.content:
        return True
    if before.finalizers == after.finalizers or before.generation != after.generation:
        return False
    one, other = before.document(), after.document()
    one["metadata"].pop("finalizers", None)
    other["metadata"].pop("finalizers", None)
    return one == other


def _references(exporter: Exporter | None, namespace: str) -> Iterator[ObjectKey]:
    """Yield the Secrets that an Exporter refers to."""
    for sink in exporter.sinks if exporter is not None else ():
        for one in sink.endpoint.references:
            if one.name:
                yield namespace, one.name


def taken_namespaces(planes: Iterable[PlaneObjects]) -> tuple[list[Object], list[Object]]:
    """Return what :meth:`PlaneObjects.take_namespaces` returns, of several control planes."""
    removed: list[Object] = []
    added: list[Object] = []
    for plane in planes:
        gone, new = plane.take_namespaces()
        removed += gone
        added += new
    return removed, added


def origins_of(
    planes: Iterable[PlaneObjects], before: tuple[OriginResources, ...]
) -> tuple[OriginResources, ...]:
    """Return the resources of control planes, in this order; ``before`` if it has the same."""
    origins = tuple(OriginResources(plane.resources) for plane in planes if plane.resources)
    is_same = len(before) == len(origins) and all(
        one.resources is other.resources for one, other in zip(before, origins, strict=True)
    )
    return before if is_same else origins
