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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from relay.config.export_policy.refusal import merged, refused_sinks
from relay.config.exporter import secrets as secrets_module
from relay.config.exporter.cross_checks import Candidate, check_cost, check_overflow, check_secrets
from relay.config.exporter.file_reader import ManifestFile, ManifestResource, instead_of, read_file
from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import ExporterPath, id_of
from relay.config.yaml.document import shown
from relay.config.yaml.file_watcher import FileWatch, Signature, manifest_files
from relay.config.yaml.report import Report
from relay.runtime.errors import Fault

WAITING_MAX = 1_000
"""Exporters without their secrets that each poll looks at again."""

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
        self._files: dict[tuple[str, Path], ManifestFile] = {}
        self._waiting: list[ManifestResource] = []
        """Exporters with faulty secrets."""
        self._store = SecretStore()
        self._renewed: frozenset[_Namespace] = frozenset()
        self._secrets: dict[_Namespace, dict[str, tuple[str, Mapping[str, bytes]]]] = {}

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
        files: dict[tuple[str, Path], ManifestFile] = {}
        for project, path in present:
            known = before.get((project, path))
            if path in changed and (project, path) not in entries:
                known = None
            elif path in changed:
                known = instead_of(known, read_file(path, project), path)
            if known is not None:
                files[project, path] = known
        self._files = files

    def _combined(self, faults: list[Fault]) -> LoadResult:
        """Check the resources against each other, and build the result."""
        resources = [one for file in self._files.values() for one in file.resources]
        surroundings: dict[int, Report] = {}

        def report_of(resource: ManifestResource) -> Report:
            return surroundings.setdefault(id(resource), resource.report.another())

        claims = _claim(resources, report_of)
        store = self._collect_secrets(resources, surroundings)
        self._store = store
        self._waiting = []
        reports_of_secrets: dict[int, Report] = {}
        good: list[ManifestResource] = []
        for one in resources:
            if one.draft is not None and one.draft.namespace and self._need_secrets:
                check_secrets(Candidate(one.draft, one.where, report_of(one)), store)
            if one.exporter is None or id(one) in surroundings:
                continue
            refused = one.refused
            if self._need_secrets and not one.has_good_secrets:
                report = self._look_up_secrets(one)
                if report.faulty:
                    reports_of_secrets[id(one)] = report
                    lacking = refused_sinks(one.exporter, one.where, report)
                    if lacking is None:
                        continue
                    refused = merged(refused, lacking)
            one.accept(refused)
            good.append(one)
        good = _without_refused_overflow(good, surroundings)
        good = _without_refused_cost(good, surroundings)
        for (project, _), file in self._files.items():
            faults.extend(_of(project, file.faults))
        for (project, _), file in self._files.items():
            for one in file.resources:
                found = one.faults
                for reports in (reports_of_secrets, surroundings):
                    if id(one) in reports:
                        found = (*found, *reports[id(one)].faults)
                        found = tuple(sorted(found, key=attrgetter("place")))
                faults.extend(_of(project, found))
        exporters = tuple(one.accepted for one in good if one.accepted is not None)
        running = {one.identity for one in good}
        return LoadResult(
            exporters,
            tuple(faults),
            store,
            faulty=frozenset(
                id_of(*claim)
                for claim in claims
                if claim[0] != secrets_module.KIND and claim not in running
            ),
            faulty_files=frozenset(
                str(path) for (_, path), file in self._files.items() if file.is_faulty
            ),
            renewed=self._renewed,
            warnings=tuple(one for resource in resources for one in resource.warnings),
        )

    def _look_up_secrets(self, one: ManifestResource) -> Report:
        """Return the faults of an exporter's secrets; look at them again soon if there are any."""
        assert one.exporter is not None, "only good exporters are asked for their secrets"
        candidate = Candidate(one.exporter, one.where, one.report.another())
        check_secrets(candidate, self._store)
        one.has_good_secrets = not candidate.report.faulty
        one.missing = candidate.report.count
        if candidate.report.faulty:
            self._waiting.append(one)
        return candidate.report

    def _secrets_have_come(self) -> bool:
        """Return True if an exporter that lacked only secrets has other ones now."""
        for one in self._waiting[:WAITING_MAX]:
            assert one.exporter is not None, "only good exporters wait"
            candidate = Candidate(one.exporter, one.where, one.report.another())
            check_secrets(candidate, self._store)
            if candidate.report.count != one.missing:
                return True
        return False

    def _collect_secrets(
        self, resources: Iterable[ManifestResource], surroundings: Mapping[int, Report]
    ) -> SecretStore:
        """Return a store of the manifests' Secrets; let exporters beside a new one look again."""
        store = SecretStore(self._secrets_root, tenancy=self._tenancy)
        secrets: dict[_Namespace, dict[str, tuple[str, Mapping[str, bytes]]]] = {}
        for one in resources:
            if one.data is not None and one.identity is not None and id(one) not in surroundings:
                _, project, namespace, name = one.identity
                is_new = store.add(project, namespace, name, one.data, one.type)
                assert is_new, "the first that claims a name adds it"
                secrets.setdefault((project, namespace), {})[name] = (one.type, one.data)
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


def _by_path(entries: Mapping[tuple[str, Path], Signature]) -> dict[Path, Signature]:
    return {path: found for (_, path), found in entries.items()}


def _claim(
    resources: Iterable[ManifestResource], report_of: Callable[[ManifestResource], Report]
) -> Iterable[tuple[str, str, str, str]]:
    """Give each name to the first that has it; note a fault in the report of any other."""
    claims: dict[tuple[str, str, str, str], ManifestResource] = {}
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
    good: list[ManifestResource], surroundings: dict[int, Report]
) -> list[ManifestResource]:
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
    good: list[ManifestResource], surroundings: dict[int, Report]
) -> list[ManifestResource]:
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
