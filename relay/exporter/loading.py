"""From files and directories to Exporters that can run, and to every fault in the others.

Rules:

* One faulty resource never hides or stops another: faults are collected per resource.
* Secrets are collected from all files before any exporter is checked, so order does not matter.
* Directories are read in order of path, subdirectories included. Only ``*.yaml`` and ``*.yml``
  count; names that begin with a dot do not, which leaves out editors' temporaries and the
  ``..data`` machinery of mounted ConfigMaps (the visible links into it are followed).
* The first resource of a name claims it, even where it is faulty: which of two runs must not depend
  on the other's faults.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relay.errors import ConfigError, Fault
from relay.exporter import schema
from relay.exporter import secrets as secrets_module
from relay.exporter.document import Document, Where, read_documents, shown
from relay.exporter.fields import Report, Section, described, kind_of, nearest
from relay.exporter.model import Exporter, ExporterPath
from relay.exporter.secrets import SecretStore, read_secret_data
from relay.exporter.validate import Candidate, check_overflow, check_secrets

FILES_MAX = 100_000
ITEMS_MAX = 100_000
DIRECTORY_DEPTH_MAX = 16

_SUFFIXES = (".yaml", ".yml")
_LIST_KIND = "List"
_KINDS_IN_LIST = (schema.KIND, secrets_module.KIND)
_KINDS = (*_KINDS_IN_LIST, _LIST_KIND)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What can run, what is wrong with the rest, and the secrets that both refer to.

    ``faulty`` are the ids of Exporters that were recognised but cannot run, ``faulty_files`` the
    files of which a part could not even be recognised.
    """

    exporters: tuple[Exporter, ...]
    faults: tuple[Fault, ...]
    secrets: SecretStore
    faulty: frozenset[str] = frozenset()
    faulty_files: frozenset[str] = frozenset()


def keep_last_good(running: Iterable[Exporter], loaded: LoadResult) -> LoadResult:
    """What to run after a reload: what was loaded, and what runs already but is faulty now.

    An exporter that is gone from its file is kept only where a part of that file cannot be read,
    since then it may be in there. One that makes senders wait is not kept beside others.
    """
    present = {exporter.id for exporter in loaded.exporters}
    kept = [
        exporter
        for exporter in running
        if exporter.id not in present
        and (exporter.id in loaded.faulty or exporter.file in loaded.faulty_files)
    ]
    if len(kept) + len(present) > 1:
        kept = [one for one in kept if all(sink.queue.overflow != "block" for sink in one.sinks)]
    return replace(loaded, exporters=(*loaded.exporters, *kept))


def load_exporters(
    paths: Sequence[ExporterPath],
    *,
    secrets_root: Path | None = None,
    tenancy: bool = False,
    need_secrets: bool = True,
) -> LoadResult:
    """Load every Exporter and Secret below ``paths``; never raises for what the files hold.

    Without ``need_secrets`` an exporter whose secrets are missing is as good as any other: it is
    only asked about, not run.
    """
    loader = _Loader(SecretStore(secrets_root, tenancy=tenancy))
    if secrets_root is not None and not secrets_root.is_dir():
        loader.faults.append(Fault("", "secrets: no such directory", str(secrets_root)))
    for entry in paths:
        assert tenancy or not entry.project, "settings refuse a project without tenancy"
        for file in loader.files(entry.path):
            loader.load_file(file, entry.project)
    return loader.finish(need_secrets=need_secrets)


class _Loader:
    """Everything that one call of :func:`load_exporters` has seen so far."""

    def __init__(self, secrets: SecretStore) -> None:
        self.faults: list[Fault] = []
        self._secrets = secrets
        self._reports: list[Report] = []
        self._candidates: list[Candidate] = []
        self._claims: dict[tuple[str, str, str, str], str] = {}
        self._faulty_files: set[str] = set()

    def files(self, path: Path) -> Iterator[Path]:
        """The file itself, or the manifests below a directory."""
        if not path.is_dir():
            yield path  # whether or not it exists: reading tells
            return
        count = 0
        for directory, folders, names in os.walk(path, onerror=self._note_unreadable):
            depth = len(Path(directory).relative_to(path).parts)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if depth == DIRECTORY_DEPTH_MAX and folders:
                message = f"directories below {DIRECTORY_DEPTH_MAX} levels are left out"
                self.faults.append(Fault("", message, directory))
                folders.clear()
            for name in sorted(names):
                if name.startswith(".") or not name.endswith(_SUFFIXES):
                    continue
                count += 1
                if count > FILES_MAX:
                    self.faults.append(Fault("", f"more than {FILES_MAX} files", str(path)))
                    return
                yield Path(directory, name)

    def load_file(self, file: Path, project: str) -> None:
        """Read one file's documents."""
        try:
            documents = read_documents(file)
        except ConfigError as error:
            self.faults.extend(error.faults)
            self._faulty_files.add(str(file))
            return
        for document in documents:
            self._load_document(document, project)

    def finish(self, *, need_secrets: bool) -> LoadResult:
        """Check what was read against its surroundings, and sum up."""
        for candidate in self._candidates if need_secrets else ():
            check_secrets(candidate, self._secrets)
        check_overflow([one for one in self._candidates if not one.report.faulty])
        for report in self._reports:
            self.faults.extend(report.faults)
        good = tuple(one.exporter for one in self._candidates if not one.report.faulty)
        ids = {exporter.id for exporter in good}
        claimed = {
            "/".join(part for part in identity if part)
            for kind, *identity in self._claims
            if kind == schema.KIND
        }
        return LoadResult(
            good,
            tuple(self.faults),
            self._secrets,
            faulty=frozenset(claimed - ids),
            faulty_files=frozenset(self._faulty_files),
        )

    def _load_document(self, document: Document, project: str) -> None:
        value = document.value
        if isinstance(value, dict) and value.get("kind") == _LIST_KIND:
            self._load_list(document, project)
            return
        report = self._report(document)
        for where, message in document.faults:
            report.fault(where, message)
        if value is not None:
            self._load_resource(report, (), value, project)
        elif document.faults:
            self._faulty_files.add(str(document.file))

    def _load_list(self, document: Document, project: str) -> None:
        """A ``kind: List``, as ``kubectl get -o yaml`` prints it; each item stands for itself."""
        report = self._report(document)
        with Section(report, (), document.value, required=True) as envelope:
            envelope.ignore("apiVersion", "kind", "metadata")
            items = envelope.values("items", count_min=0, count_max=ITEMS_MAX)
        reports = [self._report(document) for _ in items]
        for where, message in document.faults:
            owner = report
            if len(where) > 1 and where[0] == "items" and isinstance(where[1], int) and reports:
                owner = reports[where[1]]
            owner.fault(where, message)
        for index, item in enumerate(items):
            self._load_resource(reports[index], ("items", index), item, project)

    def _load_resource(self, report: Report, where: Where, value: object, project: str) -> None:
        if not isinstance(value, dict):
            message = f"must be a mapping with apiVersion and kind, not {kind_of(value)}"
            report.fault(where, message)
            return
        kind = value.get("kind")
        if kind == schema.KIND:
            self._load_exporter(report, where, value, project)
        elif kind == secrets_module.KIND:
            self._load_secret(report, where, value, project)
        else:
            kinds = _KINDS if not where else _KINDS_IN_LIST
            hint = nearest(kind, kinds) if isinstance(kind, str) else ""
            message = f"must be one of {', '.join(kinds)}"
            if kind is not None:
                message += f", not {described(kind)}"
            report.fault((*where, "kind"), f"{message}; {hint}" if hint else message)

    def _load_exporter(self, report: Report, where: Where, value: object, project: str) -> None:
        with Section(report, where, value, required=True) as resource:
            identity = schema.read_identity(resource, schema.KIND)
            exporter = schema.read_exporter(resource, identity or ("", ""), project)
        if identity is not None:
            self._claim(report, where, (schema.KIND, project, *identity))
        else:
            self._faulty_files.add(str(report.document.file))
        if not report.faulty:
            self._candidates.append(Candidate(exporter, where, report))

    def _load_secret(self, report: Report, where: Where, value: object, project: str) -> None:
        with Section(report, where, value, required=True) as resource:
            identity = schema.read_identity(resource, secrets_module.KIND)
            data = read_secret_data(resource)
        if identity is not None:
            self._claim(report, where, (secrets_module.KIND, project, *identity))
        if identity is not None and not report.faulty:
            is_new = self._secrets.add(project, *identity, data)
            assert is_new, "whoever claimed the name first added it"

    def _claim(self, report: Report, where: Where, identity: tuple[str, str, str, str]) -> None:
        origin = report.document.origin(where)
        first = self._claims.setdefault(identity, origin)
        if first is not origin:
            report.fault(
                (*where, "metadata", "name"),
                f"{shown(identity[3])} is already taken by {first}; the first one counts",
            )

    def _report(self, document: Document) -> Report:
        report = Report(document)
        self._reports.append(report)
        return report

    def _note_unreadable(self, error: OSError) -> None:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
        self.faults.append(Fault("", message, str(error.filename)))
