"""Reads the labels of Kubernetes objects from manifests.

Rules:

* Every object counts, of any kind; ``kind: List`` stands for its items, as ``kubectl get -o yaml``
  prints them. A document that is no Kubernetes object is a fault, but the others are read.
* Labels that are not text are left out with a fault; no other field of an object is read.
* A file is read again only when its signature has changed. The last content of a faulty file, or of
  a directory that cannot be read, stays valid until it can be read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from relay.config.exporter.types import ExporterPath
from relay.config.schema.words import described
from relay.config.yaml.document import Document, Where, read_documents
from relay.config.yaml.file_watcher import Signature, manifest_files
from relay.runtime.errors import ConfigError, Fault
from relay.selector.inventory.store import ManifestIndex, Object

LIST_KIND: Final = "List"
LABELS_MAX: Final = 128
_FAULTS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class InventoryLoad:
    """The objects of manifests, in order of their files, and the faults of the rest.

    ``index`` is built from the objects; it is the same instance as long as they are equal.
    """

    objects: tuple[Object, ...] = ()
    faults: tuple[Fault, ...] = ()
    index: ManifestIndex = field(default_factory=ManifestIndex, compare=False)


class _File(msgspec.Struct, frozen=True):
    """The content of one file."""

    objects: tuple[Object, ...]
    faults: tuple[Fault, ...]


class InventoryFilesStatistics(msgspec.Struct, frozen=True):
    """``files`` that are known, and how many were read since the start."""

    files: int
    read: int


class InventoryFiles:
    """The manifests below some paths; not thread-safe."""

    def __init__(self, paths: Sequence[ExporterPath]) -> None:
        self._paths: Final = tuple(paths)
        self._known: dict[tuple[Path, str], tuple[Signature, _File]] = {}
        self._read = 0
        self._last = InventoryLoad()
        self._retired = self._last

    def load(self) -> InventoryLoad:
        """Return every object; never raise for the content of files."""
        known: dict[tuple[Path, str], tuple[Signature, _File]] = {}
        faults: list[Fault] = []
        lost: list[Path] = []
        for entry in self._paths:
            # Signatures are taken before reading, so that a file changed meanwhile is read again
            # next time.
            found = manifest_files(entry.path, faults.append, lost.append)
            for file, now in found.items():
                place = (file, entry.project)
                before = self._known.get(place)
                if before is None:
                    before = (now, _read_file(file, entry.project))
                    self._read += 1
                elif before[0] != now:
                    before = (now, _with_last_good(_read_file(file, entry.project), before[1]))
                    self._read += 1
                known[place] = before
        for place, before in self._known.items():
            if any(place[0].is_relative_to(path) for path in lost):
                known.setdefault(place, before)
        self._known = known
        loads = [load for _, load in known.values()]
        objects = tuple(one for load in loads for one in load.objects)
        index = self._last.index
        if objects != self._last.objects:
            index = ManifestIndex(objects, base=index)
        # The old index is still in use; keep it until the next call, so that it is freed here and
        # not on the event loop: a tenth of a second with 100,000 objects.
        self._retired = self._last
        faults += (fault for load in loads for fault in load.faults)
        self._last = InventoryLoad(objects, tuple(faults), index)
        return self._last

    def statistics(self) -> InventoryFilesStatistics:
        """Return a snapshot."""
        return InventoryFilesStatistics(len(self._known), self._read)

    def __repr__(self) -> str:
        return f"<InventoryFiles {len(self._known)} files of {len(self._paths)} paths>"


def load_inventory(paths: Sequence[ExporterPath]) -> InventoryLoad:
    """Load everything below ``paths`` once."""
    return InventoryFiles(paths).load()


def _with_last_good(load: _File, before: _File) -> _File:
    """Add the objects read before, if a part of a file is faulty and may contain them."""
    if not load.faults:
        return load
    present = {one.key for one in load.objects}
    kept = (one for one in before.objects if one.key not in present)
    return _File((*load.objects, *kept), load.faults)


def _read_file(file: Path, project: str) -> _File:
    try:
        documents = read_documents(file)
    except ConfigError as error:
        return _File((), tuple(replace(fault, project=project) for fault in error.faults))
    objects: list[Object] = []
    faults: list[Fault] = []
    for document in documents:
        for where, message in document.faults:
            faults.append(document.fault(where, message))
        for where, value in _items(document):
            if len(faults) >= _FAULTS_MAX:
                break
            found = _read_object(value, where, document, project, faults)
            if found is not None:
                objects.append(found)
    return _File(tuple(objects), tuple(replace(fault, project=project) for fault in faults))


def _items(document: Document) -> Iterator[tuple[Where, object]]:
    value = document.value
    if value is None or document.repaired:
        return  # an object with a label less is another one
    if isinstance(value, dict) and value.get("kind") == LIST_KIND:
        items = value.get("items")
        for index, item in enumerate(items if isinstance(items, list) else ()):
            yield ("items", index), item
    else:
        yield (), value


def _read_object(
    value: object, where: Where, document: Document, project: str, faults: list[Fault]
) -> Object | None:
    """Return one object, or None and a fault."""

    def fault(*steps: str, message: str) -> None:
        at = (*where, *steps)
        faults.append(document.fault(at, message))

    if not isinstance(value, dict):
        fault(message=f"must be a Kubernetes object, not {described(value)}")
        return None
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    version, kind, name = value.get("apiVersion"), value.get("kind"), metadata.get("name")
    for steps, text in (
        (("apiVersion",), version),
        (("kind",), kind),
        (("metadata", "name"), name),
    ):
        if not isinstance(text, str) or not text:
            fault(*steps, message="must be a string: every Kubernetes object has it")
            return None
    labels = metadata.get("labels") or {}
    if not isinstance(labels, dict) or len(labels) > LABELS_MAX:
        fault("metadata", "labels", message=f"must be a mapping of at most {LABELS_MAX} labels")
        return None
    for key, label in labels.items():
        if not isinstance(label, str):
            fault("metadata", "labels", key, message="must be a string: put it in quotes")
    namespace, uid = metadata.get("namespace"), metadata.get("uid")
    group, slash, _ = str(version).rpartition("/")
    return Object(
        project=project,
        group=group if slash else "",
        kind=str(kind),
        namespace=namespace if isinstance(namespace, str) else "",
        name=str(name),
        uid=uid if isinstance(uid, str) else "",
        labels={key: label for key, label in labels.items() if isinstance(label, str)},
    )
