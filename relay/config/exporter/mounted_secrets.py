"""Detects changes of mounted secrets.

Rules:

* A check walks the whole directory and compares inode, times and size of every key: Kubernetes
  swaps a symbolic link, other tools write in place. Contents are not read.
* Entries that begin with ``..`` are Kubernetes' own; the keys beside them are links into them.
* With tenancy a path is ``<project>/<namespace>/<secret>/<key>``, otherwise
  ``<namespace>/<secret>/<key>`` or ``<secret>/<key>``, which may concern every namespace.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

KEYS_MAX: Final = 200_000
DEPTH_MAX: Final = 4

_Signature = tuple[int, int, int, int]
Namespace = tuple[str, str]
"""Project, "" without tenancy, and namespace."""


class MountedSecrets:
    """The keys below one directory as of the last check; not thread-safe."""

    def __init__(self, root: Path | None, *, tenancy: bool) -> None:
        self._root = root
        self._tenancy = tenancy
        self._seen: dict[tuple[str, ...], _Signature] | None = None

    def changed(self) -> frozenset[Namespace] | None:
        """Return the namespaces whose secrets changed since the last check; None: any may have.

        The first check reports no change.
        """
        if self._root is None:
            return frozenset()
        now: dict[tuple[str, ...], _Signature] = {}
        self._walk(str(self._root), (), now)
        before, self._seen = self._seen, now
        if before is None or before == now:
            return frozenset()
        differing = [path for path in {*before, *now} if before.get(path) != now.get(path)]
        if self._tenancy:
            return frozenset((path[0], path[1]) for path in differing if len(path) > 1)
        if any(len(path) <= 2 for path in differing):
            return None
        return frozenset(("", path[0]) for path in differing)

    def _walk(
        self, directory: str, parts: tuple[str, ...], found: dict[tuple[str, ...], _Signature]
    ) -> None:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith("..") or len(found) >= KEYS_MAX:
                        continue
                    path = (*parts, entry.name)
                    try:
                        if entry.is_dir():
                            if len(path) < DEPTH_MAX:
                                self._walk(entry.path, path, found)
                            continue
                        state = entry.stat()
                    except OSError:
                        continue  # a loop of links, or gone meanwhile: the next look sees it
                    found[path] = (
                        state.st_ino,
                        state.st_mtime_ns,
                        state.st_ctime_ns,
                        state.st_size,
                    )
        except OSError:
            return  # not there now; loading says so

    def __repr__(self) -> str:
        return f"<MountedSecrets {self._root}: {len(self._seen or ())} keys>"
