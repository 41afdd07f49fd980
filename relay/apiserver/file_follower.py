"""Serve the Exporters and ExportPolicies of files, as the files say now, read-only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from relay.apiserver.http.file_objects import FileObject, FileObjects
from relay.apiserver.objects.kinds import ResourceKind, served_kinds
from relay.apiserver.store.errors import StoreUnusableError
from relay.config.exporter.load_result import ObjectKey
from relay.config.exporter.loading.combine import OriginResources
from relay.config.inventory_manifests import LIST_KIND
from relay.config.yaml.document import read_documents
from relay.runtime.errors import ConfigError
from relay.runtime.event_loop import run_in_thread

_log: Final = logging.getLogger("relay.api")
LOOK_S: Final = 1.0
_KINDS: Final = tuple(kind for kind in served_kinds() if kind.is_custom)
_Named = tuple[str, str, str]
"""Kind, namespace and name."""


class FileFollower:
    """Keeps the served objects of files in step. Lives on the event loop.

    ``origins`` returns the resources of all files, the same object while none has changed;
    ``synced`` is called when objects were stored.
    """

    def __init__(
        self,
        origins: Callable[[], tuple[OriginResources, ...]],
        files: Callable[[], FileObjects],
        synced: Callable[[], None],
    ) -> None:
        self._origins = origins
        self._files = files
        self._synced = synced
        self._seen: tuple[OriginResources, ...] | None = None
        self._waiting: list[FileObject] = []
        """Objects whose name is taken by one of the API."""
        self._by_file: dict[str, list[FileObject]] = {}

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            try:
                await self.sync()
            except StoreUnusableError as error:
                _log.warning("objects of files cannot be stored: %s", error)
            except Exception:
                _log.exception("bug in the relay: objects of files are not served")
            await asyncio.sleep(LOOK_S)

    async def sync(self) -> None:
        """Serve what the files say, if it has changed, or if a name has become free."""
        origins = self._origins()
        files = self._files()
        if origins is self._seen and not any(files.is_free(one) for one in self._waiting):
            return
        self._by_file = await run_in_thread(lambda: self._read(origins))
        wanted = [one for found in self._by_file.values() for one in found]
        waiting = await files.sync(_KINDS, wanted)
        for one in waiting:
            if origins is self._seen:
                break  # they are known
            name = f"{one.key.namespace}/{one.key.name}"
            _log.warning(
                "%s %s of %s is not served: the API has its own, which does not run: rename one",
                one.kind.kind,
                name,
                one.file,
            )
        self._seen, self._waiting = origins, waiting
        self._synced()

    def _read(self, origins: tuple[OriginResources, ...]) -> dict[str, list[FileObject]]:
        """Return the objects by file; a part of a file that cannot be read keeps what it had."""
        found: dict[str, list[FileObject]] = {}
        taken: set[ObjectKey] = set()
        for origin in origins:
            for file, keys in _keys_by_file(origin).items():
                own = [key for key in keys if key not in taken]
                taken.update(own)
                try:
                    found[file] = list(_objects(file, own))
                except ConfigError:
                    # It is a fault of the file, which is reported where exporters are loaded.
                    found[file] = self._by_file.get(file, [])
            if origin.file:
                known = {one.key for one in found.get(origin.file, ())}
                before = self._by_file.get(origin.file, [])
                kept = [one for one in before if one.key not in known]
                found.setdefault(origin.file, []).extend(kept)
        return found

    def __repr__(self) -> str:
        return f"<FileFollower of {len(self._by_file)} files>"


def _keys_by_file(origin: OriginResources) -> dict[str, list[ObjectKey]]:
    found: dict[str, list[ObjectKey]] = {}
    for one in origin.resources:
        if one.key is not None:
            found.setdefault(one.report.document.file, []).append(one.key)
    return found


def _objects(file: str, keys: list[ObjectKey]) -> Iterator[FileObject]:
    """Yield the objects of a file; one whose shape is not that of its kind is left out."""
    wanted: dict[_Named, ObjectKey] = {}
    for key in keys:
        wanted.setdefault((key.kind, key.namespace, key.name), key)
    for document in read_documents(Path(file)):
        for value in _resources(document.value):
            kind, metadata = _kind_of(value), value.get("metadata")
            if kind is None or not isinstance(metadata, dict):
                continue
            namespace = metadata.get("namespace", "default")
            found = wanted.pop((kind.kind, str(namespace), str(metadata.get("name"))), None)
            if found is not None:
                yield FileObject(kind, found.project, value, file)


def _resources(value: object) -> Iterator[dict[str, Any]]:
    """Yield the resource of a document, or those of a List."""
    if isinstance(value, dict):
        items = value.get("items") if value.get("kind") == LIST_KIND else [value]
        yield from (one for one in (items or ()) if isinstance(one, dict))


def _kind_of(value: dict[str, Any]) -> ResourceKind | None:
    named = value.get("apiVersion"), value.get("kind")
    return next((one for one in _KINDS if (one.api_version, one.kind) == named), None)
