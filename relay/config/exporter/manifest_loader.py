"""Loads Exporters from files and directories, and collects every fault in them.

Rules:

* One faulty resource never hides or stops another: faults are collected per resource.
* Secrets are collected from all files before any exporter is checked, so order does not matter.
* The first resource of a name claims it, even where it is faulty: which of two runs must not depend
  on the other's faults.
* A directory that is missing or unreadable keeps its last contents. So does a file that is empty
  now: it is being written, or was truncated. Its Secrets are kept, too, as are those of an
  unreadable file.
* A file is read and parsed again only where it has changed, and an exporter that did not change is
  the same object as before. What depends on more than one file (names, secrets, ``overflow``) is
  put together anew each time; secrets are looked up again only for exporters that had a fault, and
  where a Secret in the manifests of their namespace is another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

from relay.config.exporter import build
from relay.config.exporter import secrets as secrets_module
from relay.config.exporter.cross_checks import (
    Candidate,
    check_cost,
    check_overflow,
    check_secrets,
    places,
)
from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.secrets import SecretStore, build_secret_data
from relay.config.exporter.types import Exporter, ExporterPath
from relay.config.schema.words import described, kind_of, nearest
from relay.config.yaml.document import Document, Where, read_documents, shown
from relay.config.yaml.file_watcher import FileWatch, Signature, manifest_files
from relay.config.yaml.report import Report
from relay.runtime.errors import ConfigError, Fault

_log = logging.getLogger("relay.control.reconcile")

WAITING_MAX = 1_000
"""Exporters without their secrets that each poll looks at again."""

_LIST_KIND = "List"
_KINDS_IN_LIST = (build.KIND, secrets_module.KIND)
_KINDS = (*_KINDS_IN_LIST, _LIST_KIND)

_Namespace = tuple[str, str]
"""Project and namespace."""


def load_exporters(
    paths: Sequence[ExporterPath],
    *,
    secrets_root: Path | None = None,
    tenancy: bool = False,
    need_secrets: bool = True,
) -> LoadResult:
    """Load every Exporter and Secret below ``paths`` once; see :class:`Manifests`."""
    return Manifests(
        paths, secrets_root=secrets_root, tenancy=tenancy, need_secrets=need_secrets
    ).load()


@dataclass(slots=True)
class _Resource:
    """One resource of a file, or a placeholder for it, and its own faults."""

    report: Report
    where: Where = ()
    identity: tuple[str, str, str, str] | None = None
    """Kind, project, namespace and name."""
    exporter: Exporter | None = None
    draft: Exporter | None = None
    """A faulty exporter, kept to check its secrets as well."""
    data: Mapping[str, bytes] | None = field(default=None, repr=False)
    """Values of a Secret."""
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
        if self.exporter is not None and self.report.faulty:
            self.draft, self.exporter = self.exporter, None


@dataclass(slots=True)
class _File:
    """The content of one file."""

    resources: list[_Resource] = field(default_factory=list)
    faults: tuple[Fault, ...] = ()
    is_faulty: bool = False
    """True if a part of the file could not even be recognised."""


class Manifests:
    """All manifests below the operator's paths; not thread-safe.

    Never raises for the content of files. Without ``need_secrets`` an exporter with missing secrets
    counts as valid: it is only inspected, not run.
    """

    def __init__(
        self,
        paths: Sequence[ExporterPath],
        *,
        secrets_root: Path | None = None,
        tenancy: bool = False,
        need_secrets: bool = True,
    ) -> None:
        assert tenancy or not any(entry.project for entry in paths), "settings refuse that"
        self._paths = tuple(paths)
        self._secrets_root = secrets_root
        self._tenancy = tenancy
        self._need_secrets = need_secrets
        self._watch = FileWatch()
        self._files: dict[tuple[str, Path], _File] = {}
        self._waiting: list[_Resource] = []
        """Exporters with faulty secrets."""
        self._store = SecretStore()
        self._renewed: frozenset[_Namespace] = frozenset()
        self._secrets: dict[_Namespace, dict[str, Mapping[str, bytes]]] = {}

    def load(self) -> LoadResult:
        """Return the present state; read the files that changed since the last call."""
        entries, faults = self._scan()
        self._read(entries, self._watch.take(_by_path(entries)))
        return self._combined(faults)

    def poll(self, now: float) -> LoadResult | None:
        """Return the state after changes that have settled, or None if there are none.

        ``now`` is a monotonic clock, s.
        """
        entries, faults = self._scan()
        rested = self._watch.observe(_by_path(entries), now)
        if not rested and not self._secrets_have_come():
            return None
        self._read(entries, rested)
        return self._combined(faults)

    @property
    def restless(self) -> bool:
        """True if a change has not settled yet: call :meth:`poll` again soon."""
        return self._watch.restless

    def __repr__(self) -> str:
        return f"<Manifests {len(self._files)} files>"

    def _scan(self) -> tuple[dict[tuple[str, Path], Signature], list[Fault]]:
        """Return every file with its project, in order, and the faults found while listing."""
        faults: list[Fault] = []
        root = self._secrets_root
        if root is not None and not root.is_dir():
            faults.append(Fault("", "secrets: no such directory", str(root)))
        entries: dict[tuple[str, Path], Signature] = {}
        lost: list[Path] = []
        for entry in self._paths:
            found = manifest_files(entry.path, faults.append, lost.append)
            entries.update({(entry.project, path): one for path, one in found.items()})
        if lost:
            # A mount that is late must not remove thousands of exporters.
            for key in self._files:
                if any(key[1].is_relative_to(folder) for folder in lost):
                    entries.setdefault(key, self._watch.signature_of(key[1]))
        return entries, faults

    def _read(
        self, entries: Mapping[tuple[str, Path], Signature], changed: frozenset[Path]
    ) -> None:
        """Bring ``_files`` into the order of ``entries``; read what is new or has changed.

        A file that has changed but not rested stays as it was, present or absent.
        """
        before = self._files
        present = dict.fromkeys(entries)
        if any(key not in present and key[1] not in changed for key in before):
            present = dict.fromkeys((*before, *entries))
        files: dict[tuple[str, Path], _File] = {}
        for project, path in present:
            known = before.get((project, path))
            if path in changed and (project, path) not in entries:
                known = None
            elif path in changed:
                known = _instead_of(known, _read_file(path, project), path)
            if known is not None:
                files[project, path] = known
        self._files = files

    def _combined(self, faults: list[Fault]) -> LoadResult:
        """Check the resources against each other, and build the result."""
        resources = [one for file in self._files.values() for one in file.resources]
        surroundings: dict[int, Report] = {}

        def report_of(resource: _Resource) -> Report:
            return surroundings.setdefault(id(resource), resource.report.another())

        claims = _claim(resources, report_of)
        store = self._collect_secrets(resources, surroundings)
        self._store = store
        self._waiting = []
        good: list[_Resource] = []
        for one in resources:
            if one.draft is not None and one.draft.namespace and self._need_secrets:
                check_secrets(Candidate(one.draft, one.where, report_of(one)), store)
            if one.exporter is None or id(one) in surroundings:
                continue
            if self._need_secrets and not one.has_good_secrets:
                candidate = Candidate(one.exporter, one.where, one.report.another())
                check_secrets(candidate, store)
                one.has_good_secrets = not candidate.report.faulty
                if candidate.report.faulty:
                    self._waiting.append(one)
                    surroundings[id(one)] = candidate.report
                    continue
            good.append(one)
        good = _without_refused_overflow(good, surroundings)
        good = _without_refused_cost(good, surroundings)
        for (project, _), file in self._files.items():
            faults.extend(_of(project, file.faults))
        for (project, _), file in self._files.items():
            for one in file.resources:
                found = one.faults
                if id(one) in surroundings:
                    found = (*found, *surroundings[id(one)].faults)
                    found = tuple(sorted(found, key=attrgetter("place")))
                faults.extend(_of(project, found))
        exporters = tuple(one.exporter for one in good if one.exporter is not None)
        running = {one.identity for one in good}
        return LoadResult(
            exporters,
            tuple(faults),
            store,
            faulty=frozenset(
                "/".join(part for part in claim[1:] if part)
                for claim in claims
                if claim[0] == build.KIND and claim not in running
            ),
            faulty_files=frozenset(
                str(path) for (_, path), file in self._files.items() if file.is_faulty
            ),
            renewed=self._renewed,
            warnings=tuple(one for resource in resources for one in resource.warnings),
        )

    def _secrets_have_come(self) -> bool:
        """Return True if an exporter that lacked only its secrets has them now."""
        for one in self._waiting[:WAITING_MAX]:
            assert one.exporter is not None, "only good exporters wait"
            candidate = Candidate(one.exporter, one.where, one.report.another())
            check_secrets(candidate, self._store)
            if not candidate.report.faulty:
                return True
        return False

    def _collect_secrets(
        self, resources: Iterable[_Resource], surroundings: Mapping[int, Report]
    ) -> SecretStore:
        """Return a store of the manifests' Secrets; let exporters beside a new one look again."""
        store = SecretStore(self._secrets_root, tenancy=self._tenancy)
        secrets: dict[_Namespace, dict[str, Mapping[str, bytes]]] = {}
        for one in resources:
            if one.data is not None and one.identity is not None and id(one) not in surroundings:
                _, project, namespace, name = one.identity
                is_new = store.add(project, namespace, name, one.data)
                assert is_new, "the first that claims a name adds it"
                secrets.setdefault((project, namespace), {})[name] = one.data
            elif one.data is None and one.identity and one.identity[0] == secrets_module.KIND:
                store.note_faulty(*one.identity[1:])
        before, self._secrets = self._secrets, secrets
        self._renewed = frozenset(
            home for home in {*before, *secrets} if before.get(home) != secrets.get(home)
        )
        for one in resources:
            exporter = one.exporter
            if exporter is not None and (exporter.project, exporter.namespace) in self._renewed:
                one.has_good_secrets = False
        return store


def _read_file(path: Path, project: str) -> _File:
    """Read a file; a bug met in it is a fault of this file, and costs no other one anything."""
    try:
        return _FileReader(path, project).read()
    except Exception:
        _log.exception("bug in the relay: a file cannot be read", extra={"file": str(path)})
        fault = Fault("", "cannot be read: a bug in the relay, see its log", str(path))
        return _File(faults=(fault,), is_faulty=True)


def _instead_of(known: _File | None, read: _File, path: Path) -> _File:
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


def _by_path(entries: Mapping[tuple[str, Path], Signature]) -> dict[Path, Signature]:
    return {path: found for (_, path), found in entries.items()}


def _claim(
    resources: Iterable[_Resource], report_of: Callable[[_Resource], Report]
) -> Iterable[tuple[str, str, str, str]]:
    """Give each name to the first that has it; note a fault in the report of any other."""
    claims: dict[tuple[str, str, str, str], _Resource] = {}
    for one in resources:
        if one.identity is None:
            continue
        first = claims.setdefault(one.identity, one)
        if first is not one:
            origin = first.report.document.origin(first.where)
            report_of(one).fault(
                (*one.where, "metadata", "name"),
                f"{shown(one.identity[3])} is already taken by {origin}; the first one counts",
            )
    return claims


def _of(project: str, faults: Iterable[Fault]) -> Iterable[Fault]:
    """Return the faults, marked with a project."""
    return (replace(fault, project=project) for fault in faults) if project else faults


def _without_refused_overflow(
    good: list[_Resource], surroundings: dict[int, Report]
) -> list[_Resource]:
    """Return the valid exporters that may run beside each other."""
    candidates = {
        id(one): Candidate(one.exporter, one.where, one.report.another())
        for one in good
        if one.exporter is not None
        and any(sink.queue.overflow == "block" for sink in one.exporter.sinks)
    }
    check_overflow(candidates.values(), exporters=len(good))
    refused = {key: one.report for key, one in candidates.items() if one.report.faulty}
    surroundings.update(refused)
    return [one for one in good if id(one) not in refused]


def _without_refused_cost(
    good: list[_Resource], surroundings: dict[int, Report]
) -> list[_Resource]:
    """Return the valid exporters whose projects are within the limit for patterns."""
    candidates = {
        id(one): Candidate(one.exporter, one.where, one.report.another())
        for one in good
        if one.exporter is not None and one.exporter.project
    }
    check_cost(candidates.values())
    refused = {key: one.report for key, one in candidates.items() if one.report.faulty}
    surroundings.update(refused)
    return [one for one in good if id(one) not in refused]


def _kind_meant(value: Mapping[str, object], hint: str) -> str:
    """Return the kind that a misspelt kind probably stands for, or ""."""
    if f'"{build.KIND}"' in hint or value.get("apiVersion") == build.API_VERSION:
        return build.KIND
    if f'"{secrets_module.KIND}"' in hint or "stringData" in value:
        return secrets_module.KIND
    return ""


class _FileReader:
    """Reads the resources of one file, each by itself."""

    def __init__(self, path: Path, project: str) -> None:
        self._path = path
        self._project = project
        self._file = _File()

    def read(self) -> _File:
        """Return the file's resources; never raise for its content."""
        try:
            documents = read_documents(self._path)
        except ConfigError as error:
            return _File(faults=error.faults, is_faulty=True)
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

    def _read_resource(self, resource: _Resource, value: object) -> None:
        report, where = resource.report, resource.where
        if not isinstance(value, dict):
            message = f"must be a mapping with apiVersion and kind, not {kind_of(value)}"
            report.fault(where, message)
            return
        kind = value.get("kind")
        if kind == build.KIND:
            self._read_exporter(resource, value)
        elif kind == secrets_module.KIND:
            self._read_secret(resource, value)
        else:
            kinds = _KINDS if not where else _KINDS_IN_LIST
            hint = nearest(kind, kinds) if isinstance(kind, str) else ""
            message = f"must be one of {', '.join(kinds)}"
            if kind is not None:
                message += f", not {described(kind)}"
            report.fault((*where, "kind"), f"{message}; {hint}" if hint else message)
            # The intended kind is usually clear: report the other faults as well.
            meant = _kind_meant(value, hint)
            if meant == build.KIND:
                self._read_exporter(resource, value)
            elif meant == secrets_module.KIND:
                self._read_secret(resource, value)

    def _read_exporter(self, resource: _Resource, value: object) -> None:
        reading = build.exporter_schema().read(resource.report, resource.where, value)
        identity = build.identity_of(reading, build.KIND)
        exporter = build.build_exporter(reading, identity or ("", ""), self._project)
        if identity is not None:
            resource.identity = (build.KIND, self._project, *identity)
        else:
            self._file.is_faulty = True
        resource.exporter = exporter

    def _read_secret(self, resource: _Resource, value: object) -> None:
        reading = build.secret_schema().read(resource.report, resource.where, value)
        identity = build.identity_of(reading, secrets_module.KIND)
        data = build_secret_data(reading)
        if identity is not None:
            resource.identity = (secrets_module.KIND, self._project, *identity)
            if not resource.report.faulty:
                resource.data = data

    def _resource(self, document: Document, where: Where) -> _Resource:
        resource = _Resource(Report(document), where)
        self._file.resources.append(resource)
        return resource
