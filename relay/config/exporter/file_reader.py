"""Reads the resources of one manifest file, each by itself, by its kind.

A fault of one resource costs no other one anything; what depends on several resources (names,
secrets) is checked later, in :mod:`relay.config.exporter.manifest_loader`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relay.config.export_policy import dialect
from relay.config.export_policy.build import build_export_policy, export_policy_schema
from relay.config.export_policy.refusal import refused_sinks, without
from relay.config.exporter import build
from relay.config.exporter import secrets as secrets_module
from relay.config.exporter.cross_checks import places
from relay.config.exporter.secrets import build_secret_data
from relay.config.exporter.types import Exporter, RefusedSink
from relay.config.schema.validate import Reading, Schema
from relay.config.schema.words import described, kind_of, nearest
from relay.config.yaml.document import Document, Where, read_documents
from relay.config.yaml.report import Report
from relay.runtime.errors import ConfigError, Fault

_log = logging.getLogger("relay.control.reconcile")

_Builder = Callable[[Reading, tuple[str, str], str], Exporter]

_LIST_KIND = "List"
_DIALECTS: Mapping[str, tuple[Callable[[], Schema], _Builder]] = {
    build.KIND: (build.exporter_schema, build.build_exporter),
    dialect.KIND: (export_policy_schema, build_export_policy),
}
"""Schema and builder of each kind that becomes an Exporter."""
_KINDS_IN_LIST = (build.KIND, dialect.KIND, secrets_module.KIND)
_KINDS = (*_KINDS_IN_LIST, _LIST_KIND)


@dataclass(slots=True)
class ManifestResource:
    """One resource of a file, or a placeholder for it, and its own faults."""

    report: Report
    where: Where = ()
    identity: tuple[str, str, str, str] | None = None
    """Kind, project, namespace and name."""
    exporter: Exporter | None = None
    """An ExportPolicy's has all sinks, the refused ones among them."""
    draft: Exporter | None = None
    """A faulty exporter, kept to check its secrets as well."""
    refused: tuple[RefusedSink, ...] = ()
    """Sinks of an ExportPolicy with faults that the file alone shows."""
    accepted: Exporter | None = None
    """The exporter without refused sinks, as it was last loaded."""
    missing: int = 0
    """Faults of its secrets when they were last looked up."""
    data: Mapping[str, bytes] | None = field(default=None, repr=False)
    """Values of a Secret."""
    type: str = ""
    """Type of a Secret, "" if it has none."""
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    has_good_secrets: bool = False
    """For an exporter: its secrets were found, and nothing they depend on has changed since."""

    @property
    def is_empty(self) -> bool:
        """True if the document is empty and without faults."""
        return self.identity is None and not self.faults

    def settle(self) -> None:
        """Store the faults found, before the document is dropped."""
        self.faults = self.report.faults
        self.warnings = self.exporter.warnings if self.exporter else self.report.warnings
        if self.exporter is None or not self.report.faulty:
            return
        refused = refused_sinks(self.exporter, self.where, self.report)
        if refused is None:
            self.draft, self.exporter = self.exporter, None
        else:
            self.refused = refused

    def accept(self, refused: tuple[RefusedSink, ...]) -> None:
        """Set ``accepted``: the same object as before where nothing has changed."""
        assert self.exporter is not None, "a faulty resource is not accepted"
        if not refused:
            self.accepted = self.exporter
        elif self.accepted is None or self.accepted.refused != refused:
            self.accepted = without(self.exporter, refused)


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
        if kind in _KINDS_IN_LIST:
            self._read_kind(str(kind), resource, value)
        else:
            kinds = _KINDS if not where else _KINDS_IN_LIST
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
        if kind == secrets_module.KIND:
            self._read_secret(resource, value)
        else:
            self._read_exporter(kind, resource, value)

    def _read_exporter(self, kind: str, resource: ManifestResource, value: object) -> None:
        schema, builder = _DIALECTS[kind]
        reading = schema().read(resource.report, resource.where, value)
        identity = build.identity_of(reading, kind)
        exporter = builder(reading, identity or ("", ""), self._project)
        if identity is not None:
            resource.identity = (kind, self._project, *identity)
        else:
            self._file.is_faulty = True
        resource.exporter = exporter

    def _read_secret(self, resource: ManifestResource, value: object) -> None:
        reading = build.secret_schema().read(resource.report, resource.where, value)
        identity = build.identity_of(reading, secrets_module.KIND)
        data = build_secret_data(reading)
        if identity is not None:
            resource.identity = (secrets_module.KIND, self._project, *identity)
            if not resource.report.faulty:
                resource.data = data
                kind = reading.values.get("type")
                resource.type = kind if isinstance(kind, str) else ""

    def _resource(self, document: Document, where: Where) -> ManifestResource:
        resource = ManifestResource(Report(document), where)
        self._file.resources.append(resource)
        return resource
