"""Reads the resources of one manifest file, each by itself, by its kind.

A fault of one resource costs no other one anything; what depends on several resources (names,
secrets) is checked later, in :mod:`relay.config.exporter.loading.combine`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relay.config.export_policy import dialect
from relay.config.exporter import build
from relay.config.exporter import secrets as secrets_module
from relay.config.exporter.cross_checks import places
from relay.config.exporter.loading.resource import ManifestResource
from relay.config.exporter.loading.resource_reader import KINDS, read_resource
from relay.config.schema.words import described, kind_of, nearest
from relay.config.yaml.document import Document, Where, read_documents
from relay.config.yaml.report import Report
from relay.runtime.errors import ConfigError, Fault

_log = logging.getLogger("relay.control.reconcile")

_LIST_KIND = "List"
_KINDS = (*KINDS, _LIST_KIND)


@dataclass(slots=True)
class ManifestFile:
    """The content of one file."""

    resources: list[ManifestResource] = field(default_factory=list)
    faults: tuple[Fault, ...] = ()
    is_faulty: bool = False
    """True if a part of the file could not even be recognised."""


def read_file(path: Path, project: str) -> ManifestFile:
    """Read a file; a bug met in it is a fault of this file, and costs no other one anything."""
    try:
        return _FileReader(path, project).read()
    except Exception:
        _log.exception("bug in the relay: a file cannot be read", extra={"file": str(path)})
        fault = Fault("", "cannot be read: a bug in the relay, see its log", str(path))
        return ManifestFile(faults=(fault,), is_faulty=True)


def instead_of(known: ManifestFile | None, read: ManifestFile, path: Path) -> ManifestFile:
    """Return the state to keep after a file has changed."""
    if known is None or any(one.identity is not None for one in read.resources):
        return read
    held_something = known.is_faulty or any(not one.is_empty for one in known.resources)
    if held_something and all(one.is_empty for one in read.resources) and not read.is_faulty:
        message = "is empty: its last contents stay in effect; delete the file to remove them"
        read.faults = (*read.faults, Fault("", message, str(path)))
        read.is_faulty = True
    if read.is_faulty:
        read.resources += [one for one in known.resources if one.data is not None]
    return read


def _dialect_meant(value: Mapping[str, object]) -> str:
    """Return the kind whose sinks are written like these."""
    spec = value.get("spec")
    sinks = spec.get("sinks") if isinstance(spec, dict) else None
    targets = [one for one in sinks if isinstance(one, dict)] if isinstance(sinks, list) else []
    return dialect.KIND if any("target" in one for one in targets) else build.KIND


def _kind_meant(value: Mapping[str, object], hint: str) -> str:
    """Return the kind that a misspelt kind probably stands for, or ""."""
    for kind in (build.KIND, dialect.KIND):
        if f'"{kind}"' in hint:
            return kind
    if value.get("apiVersion") in (build.API_VERSION, *dialect.API_VERSIONS):
        return _dialect_meant(value)
    if f'"{secrets_module.KIND}"' in hint or "stringData" in value:
        return secrets_module.KIND
    return ""


class _FileReader:
    """Reads the resources of one file, each by itself."""

    def __init__(self, path: Path, project: str) -> None:
        self._path = path
        self._project = project
        self._file = ManifestFile()

    def read(self) -> ManifestFile:
        """Return the file's resources; never raise for its content."""
        try:
            documents = read_documents(self._path)
        except ConfigError as error:
            return ManifestFile(faults=error.faults, is_faulty=True)
        for document in documents:
            self._read_document(document)
        for one in self._file.resources:
            one.settle()
        kept: dict[int, list[Where]] = {}
        for one in self._file.resources:
            kept.setdefault(id(one.report.document), []).extend(
                places(one.exporter or one.draft, one.where)
            )
        for document in documents:
            document.let_go(kept.get(id(document), ()))
        return self._file

    def _read_document(self, document: Document) -> None:
        value = document.value
        if isinstance(value, dict) and value.get("kind") == _LIST_KIND:
            if document.repaired:
                value = None  # which of its items lacks what was taken out is not known
            else:
                self._read_list(document)
                return
        resource = self._resource(document, ())
        for where, message in document.faults:
            resource.report.fault(where, message, on_key=True)
        if value is not None:
            self._read_resource(resource, value)
        if document.faults and resource.identity is None:
            self._file.is_faulty = True

    def _read_list(self, document: Document) -> None:
        """Read a ``kind: List``, as ``kubectl get -o yaml`` prints it, item by item."""
        report = self._resource(document, ()).report
        value = document.value
        assert isinstance(value, dict), "the caller looked at its kind"
        listed = value.get("items")
        # Each item is checked by itself, later; all at once would hold up the event loop.
        stand_ins = {"items": [None] * len(listed)} if isinstance(listed, list) else {}
        reading = build.list_schema().read(report, (), {**value, **stand_ins})
        items = reading.values.get("items", [])
        if stand_ins and items:
            items = listed
        resources = [self._resource(document, ("items", index)) for index in range(len(items))]
        for where, message in document.faults:
            owner = report
            if len(where) > 1 and where[0] == "items" and isinstance(where[1], int) and resources:
                owner = resources[where[1]].report
            owner.fault(where, message, on_key=True)
        for resource, item in zip(resources, items, strict=True):
            self._read_resource(resource, item)

    def _read_resource(self, resource: ManifestResource, value: object) -> None:
        report, where = resource.report, resource.where
        if not isinstance(value, dict):
            message = f"must be a mapping with apiVersion and kind, not {kind_of(value)}"
            report.fault(where, message)
            return
        kind = value.get("kind")
        if kind in KINDS:
            self._read_kind(str(kind), resource, value)
        else:
            kinds = _KINDS if not where else KINDS
            hint = nearest(kind, kinds) if isinstance(kind, str) else ""
            message = f"must be one of {', '.join(kinds)}"
            if kind is not None:
                message += f", not {described(kind)}"
            report.fault((*where, "kind"), f"{message}; {hint}" if hint else message)
            # The intended kind is usually clear: report the other faults as well.
            meant = _kind_meant(value, hint)
            if meant:
                self._read_kind(meant, resource, value)

    def _read_kind(self, kind: str, resource: ManifestResource, value: object) -> None:
        read_resource(resource, kind, value)
        if resource.identity is None and kind != secrets_module.KIND:
            self._file.is_faulty = True

    def _resource(self, document: Document, where: Where) -> ManifestResource:
        resource = ManifestResource(Report(document), where, self._project)
        self._file.resources.append(resource)
        return resource
