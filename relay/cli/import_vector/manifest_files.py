"""Writes imported policies: as one text, or as files that the settings can name.

* A file is ``DIR/<project>/<namespace>-<name>.yaml``, without the project's folder where the
  configuration names none. It holds Secrets: its mode is 0600, that of new folders 0700.
* Nothing is written if a file is there already and differs, unless forced. A file appears whole:
  a running relay may watch the folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from relay.cli.import_vector.policy import ImportedPolicy
from relay.config.exporter.types import ExporterPath
from relay.config.yaml.document import FILE_BYTES_MAX, read_bounded
from relay.runtime.errors import ConfigError, Fault

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


class _Dumper(yaml.SafeDumper):
    """Writes texts so that readers of YAML 1.1 and 1.2 take none of them for a number."""

    def ignore_aliases(self, data: object) -> bool:
        """Return True: two places with one value are written twice."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # 1e5 is a number in YAML 1.2 alone, and PyYAML knows 1.1.
    style = "'" if text[:1] in tuple("0123456789+-.") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def yaml_text(*documents: Mapping[str, Any]) -> str:
    """Return documents as YAML, one line for each text."""
    # Without allow_unicode: PyYAML writes U+0085 so that it is read as blanks.
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=2**20)
    return text


def rendered(policies: Iterable[ImportedPolicy]) -> str:
    """Return the manifests of policies as one YAML text."""
    return yaml_text(*(dict(document) for policy in policies for document in policy.documents))


def rendered_with_projects(policies: Iterable[ImportedPolicy]) -> str:
    """Return the same with a comment before each policy that names its project."""
    texts: list[str] = []
    for policy in policies:
        project = f"project {policy.project}" if policy.project else "of no project"
        texts.append(f"# {policy.namespace}/{policy.name}, {project}\n---\n{rendered([policy])}")
    return "".join(texts)


def write_manifests(
    policies: Iterable[ImportedPolicy], folder: Path, *, force: bool = False
) -> tuple[ExporterPath, ...]:
    """Write one file for each policy; return the entries of the setting ``exporters``.

    Raises ConfigError if a file cannot be written, or differs from what is there.
    """
    files = {path: rendered([policy]).encode() for path, policy in _places(policies, folder)}
    try:
        faults = [
            Fault("", "is there already and differs: compare them, or use --force", str(path))
            for path, content in files.items()
            if not force and os.path.lexists(path) and not _holds(path, content)
        ]
        if faults:
            raise ConfigError(faults)
        for path, content in files.items():
            _make_folder(path.parent)
            _write(path, content)
    except OSError as error:
        message = f"cannot be written: {error.strerror or type(error).__name__}"
        raise ConfigError([Fault("", message, str(error.filename or folder))]) from error
    return exporter_paths(files, folder)


def exporter_paths(files: Iterable[Path], folder: Path) -> tuple[ExporterPath, ...]:
    """Return an entry for each project's folder, and one for each file without a project."""
    entries: dict[ExporterPath, None] = {}
    for path in files:
        if path.parent == folder:
            entries[ExporterPath(path)] = None
        else:
            entries[ExporterPath(path.parent, path.parent.name)] = None
    return tuple(entries)


def _places(
    policies: Iterable[ImportedPolicy], folder: Path
) -> Iterator[tuple[Path, ImportedPolicy]]:
    """Yield each policy with its file; "a-b" with "c" and "a" with "b-c" get different ones."""
    taken: set[Path] = set()
    for policy in policies:
        stem = f"{policy.namespace}-{policy.name}"
        path = folder / policy.project / f"{stem}.yaml"
        number = 2
        while path in taken:
            path = path.with_name(f"{stem}-{number}.yaml")
            number += 1
        taken.add(path)
        yield path, policy


def _holds(path: Path, content: bytes) -> bool:
    return read_bounded(path, bytes_max=FILE_BYTES_MAX) == content


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for the owner alone."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=FOLDER_MODE)


def _write(path: Path, content: bytes) -> None:
    # The suffix is not that of manifests, so that a watching relay does not read half of one.
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name[:100]}.", suffix=".new", dir=path.parent
    )
    try:
        with open(handle, "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
