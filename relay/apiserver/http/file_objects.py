"""Objects that are read from files, served read-only beside those of the API.

They are kept like any other, so that lists and watches have them, with an annotation that names
the file; a write through the API is refused and says so. :meth:`FileObjects.sync` makes the stored
ones what the files say now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.apiserver.http.changes import Changer, file_of
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.objects.metadata import FILE_ANNOTATION
from relay.apiserver.objects.writes import ObjectPlace, WriteOptions, WriteRequest
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.event_ring import StoredObject
from relay.apiserver.store.served_objects import ServedObjects

_log: Final = logging.getLogger("relay.api")
_MANAGER: Final = "relay-files"


@dataclass(frozen=True, slots=True)
class FileObject:
    """One object of a file; ``value`` has apiVersion, kind, metadata and spec."""

    kind: ResourceKind
    project: str
    value: JsonObject
    file: str

    @property
    def key(self) -> ObjectKeyInStore:
        """Its place in the store."""
        metadata = self.value["metadata"]
        namespace = metadata.get("namespace", "default") if self.kind.namespaced else ""
        return ObjectKeyInStore(self.kind.storage_key, self.project, namespace, metadata["name"])


class FileObjects:
    """Keeps the objects of files in the store."""

    def __init__(self, objects: ServedObjects, changer: Changer) -> None:
        self._objects = objects
        self._changer = changer

    def __repr__(self) -> str:
        return f"<FileObjects in {self._objects!r}>"

    def is_free(self, one: FileObject) -> bool:
        """Return whether there is no object of its name."""
        return self._objects.get(one.key) is None

    async def sync(
        self, kinds: Iterable[ResourceKind], wanted: Iterable[FileObject]
    ) -> list[FileObject]:
        """Make the stored objects of some kinds what the files say.

        Return those that are not stored, because the API has an object of the same name. One that
        is not valid is logged, and stays as it was. Raise StoreUnusableError.
        """
        by_key = {one.key: one for one in wanted}
        for kind in kinds:
            for project in self._objects.projects(kind.storage_key):
                for stored in list(self._objects.listed(kind.storage_key, project)):
                    key = ObjectKeyInStore(kind.storage_key, project, stored.namespace, stored.name)
                    if key not in by_key and file_of(stored):
                        await self._objects.write(key, lambda _live: None)
        taken = []
        for one in by_key.values():
            await self._changer.ensure_project(one.project)
            live = self._objects.get(one.key)
            if live is not None and not file_of(live):
                taken.append(one)
            else:
                try:
                    await self._put(one)
                except ApiRefusalError as error:
                    _log.warning("%s: an object is not served as it is: %s", one.file, error)
        return taken

    async def _put(self, one: FileObject) -> None:
        place = ObjectPlace(one.project, one.key.namespace, one.key.name)
        options = WriteOptions(_MANAGER, field_validation="Ignore")
        request = WriteRequest(one.kind, place, options, self._changer.new_stamp())
        given = one.value["metadata"]
        metadata = {
            "name": one.key.name,
            "labels": given.get("labels", {}),
            "annotations": {**given.get("annotations", {}), FILE_ANNOTATION: one.file},
        }
        body = {**one.value, "metadata": metadata}

        def decide(live: StoredObject | None) -> JsonObject:
            result = self._changer.decided_from_file(request, live, body)
            if not result.is_changed:
                raise ServedObjects.unchanged()
            return result.value

        await self._objects.write(one.key, decide)
