"""Loads Exporters from files and directories, and collects every fault in them.

Rules:

* One faulty resource never hides or stops another: faults are collected per resource.
* A directory that is missing or unreadable keeps its last contents. So does a file that is empty
  now: it is being written, or was truncated. Its Secrets are kept, too, as are those of an
  unreadable file.
* A file is read and parsed again only where it has changed. What depends on more than one resource
  is checked in :mod:`relay.config.exporter.loading.combine`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from relay.config.exporter.file_reader import ManifestFile, instead_of, read_file
from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.loading.combine import Combiner, OriginResources, of_project
from relay.config.exporter.types import ExporterPath
from relay.config.limits.project_limits import UNLIMITED, LimitSettings
from relay.config.yaml.file_watcher import FileWatch, Signature, manifest_files
from relay.runtime.errors import Fault


def load_exporters(
    paths: Sequence[ExporterPath],
    *,
    secrets_root: Path | None = None,
    tenancy: bool = False,
    need_secrets: bool = True,
    limits: LimitSettings = UNLIMITED,
) -> LoadResult:
    """Load every Exporter and Secret below ``paths`` once; see :class:`Manifests`."""
    return Manifests(
        paths,
        secrets_root=secrets_root,
        tenancy=tenancy,
        need_secrets=need_secrets,
        limits=limits,
    ).load()


class FoundManifests(msgspec.Struct, frozen=True):
    """The resources of all files, and the faults found while listing them."""

    origins: tuple[OriginResources, ...]
    faults: tuple[Fault, ...]


class Manifests:
    """All manifests below the operator's paths; not thread-safe.

    Never raises for the content of files. Without ``need_secrets`` an exporter with missing secrets
    counts as valid: it is only inspected, not run. ``combiner`` is given if the files are combined
    with resources of other sources; then it has its own ``limits``.
    """

    def __init__(
        self,
        paths: Sequence[ExporterPath],
        *,
        secrets_root: Path | None = None,
        tenancy: bool = False,
        need_secrets: bool = True,
        limits: LimitSettings = UNLIMITED,
        combiner: Combiner | None = None,
    ) -> None:
        assert tenancy or not any(entry.project for entry in paths), "settings refuse that"
        self._paths = tuple(paths)
        self._secrets_root = secrets_root
        self._watch = FileWatch()
        self._files: dict[tuple[str, Path], ManifestFile] = {}
        self.combiner = combiner or Combiner(
            secrets_root=secrets_root,
            tenancy=tenancy,
            need_secrets=need_secrets,
            limits=limits,
        )

    def load(self) -> LoadResult:
        """Return the present state; read the files that changed since the last call."""
        found = self.read()
        return self.combiner.combine(found.origins, found.faults)

    def poll(self, now: float) -> LoadResult | None:
        """Return the state after changes that have settled, or None if there are none.

        ``now`` is a monotonic clock, s.
        """
        found = self.read_settled(now)
        return None if found is None else self.combiner.combine(found.origins, found.faults)

    def read(self) -> FoundManifests:
        """Read the files that changed since the last call, and return all."""
        entries, faults = self._scan()
        self._read(entries, self._watch.take(_by_path(entries)))
        return self._found(faults)

    def read_settled(self, now: float) -> FoundManifests | None:
        """Read the changes that have settled, and return all files, or None if there are none.

        Secrets that an exporter lacked and that are there now are a change, too.
        """
        entries, faults = self._scan()
        rested = self._watch.observe(_by_path(entries), now)
        if not rested and not self.combiner.secrets_have_come():
            return None
        self._read(entries, rested)
        return self._found(faults)

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

    def _found(self, faults: list[Fault]) -> FoundManifests:
        origins = tuple(
            OriginResources(
                file.resources,
                of_project(project, file.faults),
                file=str(path) if file.is_faulty else "",
            )
            for (project, path), file in self._files.items()
        )
        return FoundManifests(origins, tuple(faults))


def _by_path(entries: Mapping[tuple[str, Path], Signature]) -> dict[Path, Signature]:
    return {path: found for (_, path), found in entries.items()}
