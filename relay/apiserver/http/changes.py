"""Answer create, update, patch, apply and deletions.

A write is decided on the stored object and answered when it is durable. Deleting a namespace
deletes what is in it; it goes when nothing with finalizers is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from relay.apiserver.access.limits import ApiLimits
from relay.apiserver.http.request_target import ResourceTarget
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects import writes
from relay.apiserver.objects.failures import (
    ApiRefusalError,
    already_exists,
    forbidden,
    forbidden_field,
    invalid,
    method_not_allowed,
    not_found,
    too_many_requests,
)
from relay.apiserver.objects.kinds import ResourceKind, served_kinds, stored_kind
from relay.apiserver.objects.masking import masked
from relay.apiserver.objects.metadata import FILE_ANNOTATION
from relay.apiserver.objects.writes import (
    ObjectPlace,
    Stamp,
    WriteOptions,
    WriteRequest,
    WriteResult,
)
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.event_ring import StoredObject
from relay.apiserver.store.served_objects import SECRETS, ServedObjects

DEFAULT_NAMESPACE: Final = "default"
_GENERATED_ATTEMPTS: Final = 8
_NAMESPACES: Final = "namespaces"


@dataclass(slots=True)
class ChangeOutcome:
    """An object after a write as it is shown, and the warnings to send."""

    value: JsonObject
    code: int = 200
    warnings: list[str] = field(default_factory=list)
    is_deleted: bool = False


class Changer:
    """Writes objects; ``stamp`` returns the time and random parts of a write."""

    def __init__(
        self, objects: ServedObjects, limits: ApiLimits, stamp: Callable[[], Stamp]
    ) -> None:
        self._objects = objects
        self._limits = limits
        self._stamp = stamp

    def __repr__(self) -> str:
        return f"<Changer of {self._objects!r}>"

    async def create(
        self,
        target: ResourceTarget,
        project: str,
        body: Any,
        options: WriteOptions,
        *,
        dry_run: bool,
    ) -> ChangeOutcome:
        """Create an object; raise ApiRefusalError."""
        if target.name:
            raise method_not_allowed()
        metadata = body.get("metadata") if isinstance(body, dict) else None
        given = metadata if isinstance(metadata, dict) else {}
        is_generated = not given.get("name") and isinstance(given.get("generateName"), str)
        for attempt in range(_GENERATED_ATTEMPTS):
            try:
                return await self._create(target, project, body, options, dry_run=dry_run)
            except ApiRefusalError as error:
                is_taken = error.reason == "AlreadyExists" and is_generated
                if not is_taken or attempt == _GENERATED_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _create(
        self,
        target: ResourceTarget,
        project: str,
        body: Any,
        options: WriteOptions,
        *,
        dry_run: bool,
    ) -> ChangeOutcome:
        kind = target.kind
        place = ObjectPlace(project, target.namespace, "")
        request = WriteRequest(kind, place, options, self._stamp())
        # Fixed before the key is known: its name may be generated.
        result = writes.create(request, body)
        name = result.value["metadata"]["name"]

        def decide(live: StoredObject | None) -> WriteResult:
            self._check_room(target, project, name)
            if live is not None:
                raise already_exists(kind.names, name)
            return result

        outcome = await self._write(target, project, name, decide, dry_run=dry_run)
        outcome.code = 201
        return outcome

    def _check_room(
        self, target: ResourceTarget, project: str, name: str, *, of_file: bool = False
    ) -> None:
        """Raise ApiRefusalError if there is no namespace for an object, or no room."""
        kind = target.kind
        if kind.namespaced:
            self.check_namespace(target, project, name, of_file=of_file)
        most = self._limits.objects_per_kind_max
        if self._objects.count(kind.storage_key, project) >= most:
            raise too_many_requests(f"the project has {most} {kind.plural} already", 60)

    def check_namespace(
        self, target: ResourceTarget, project: str, name: str, *, of_file: bool = False
    ) -> None:
        """Raise ApiRefusalError if the namespace does not exist, or is being deleted.

        What is ``of_file`` is about an object of a file, whose namespace need not exist here.
        """
        found = self._objects.get(ObjectKeyInStore(_NAMESPACES, project, "", target.namespace))
        if found is None:
            if of_file:
                return
            raise not_found(stored_kind(_NAMESPACES).names, target.namespace)
        if found.value()["metadata"].get("deletionTimestamp"):
            message = (
                f"unable to create new content in namespace {target.namespace} because it is "
                "being terminated"
            )
            raise forbidden(target.kind.names, name, message)

    async def update(
        self,
        target: ResourceTarget,
        project: str,
        body: Any,
        options: WriteOptions,
        *,
        dry_run: bool,
    ) -> ChangeOutcome:
        """Replace an object; raise ApiRefusalError."""
        request = self._request(target, project, options)

        def decide(live: StoredObject | None) -> WriteResult:
            if live is None:
                writes.check_update(request, body)
                raise not_found(target.kind.names, target.name)
            return writes.update(request, live.value(), body)

        return await self._write(target, project, target.name, decide, dry_run=dry_run)

    async def patch(
        self,
        target: ResourceTarget,
        project: str,
        media_type: str,
        body: Any,
        options: WriteOptions,
        *,
        dry_run: bool,
    ) -> ChangeOutcome:
        """Patch an object; raise ApiRefusalError."""
        request = self._request(target, project, options)

        def decide(live: StoredObject | None) -> WriteResult:
            if live is None:
                raise not_found(target.kind.names, target.name)
            return writes.patch(request, live.value(), media_type, body)

        return await self._write(target, project, target.name, decide, dry_run=dry_run)

    async def apply(
        self,
        target: ResourceTarget,
        project: str,
        config: Any,
        options: WriteOptions,
        *,
        dry_run: bool,
        in_background: bool = False,
        of_file: bool = False,
    ) -> ChangeOutcome:
        """Apply a configuration; it is created if it does not exist. Raise ApiRefusalError.

        Requests come before what is applied ``in_background``. What is ``of_file`` is about an
        object of a file.
        """
        request = self._request(target, project, options)
        is_new = False

        def decide(live: StoredObject | None) -> WriteResult:
            nonlocal is_new
            is_new = live is None
            if live is None:
                if target.subresource:
                    raise not_found(target.kind.names, target.name)
                self._check_room(target, project, target.name, of_file=of_file)
            return writes.apply(request, None if live is None else live.value(), config)

        outcome = await self._write(
            target, project, target.name, decide, dry_run=dry_run, in_background=in_background
        )
        outcome.code = 201 if is_new else 200
        return outcome

    async def delete(
        self,
        target: ResourceTarget,
        project: str,
        preconditions: JsonObject,
        *,
        dry_run: bool,
        in_background: bool = False,
    ) -> ChangeOutcome:
        """Delete an object; raise ApiRefusalError."""
        kind, stamp = target.kind, self._stamp()
        is_namespace = kind.storage_key == _NAMESPACES
        if is_namespace and target.name == DEFAULT_NAMESPACE:
            raise forbidden(kind.names, target.name, "this namespace may not be deleted")

        def decide(live: StoredObject | None) -> WriteResult:
            if live is None:
                raise not_found(kind.names, target.name)
            result = writes.delete(kind, live.value(), preconditions, stamp)
            if is_namespace and result.is_deleted:
                # It goes when it is empty: nothing is created in it from now on.
                if result.value["metadata"].get("deletionTimestamp"):
                    return WriteResult(result.value, is_changed=False)
                return WriteResult(_terminating(result.value, stamp))
            return result

        outcome = await self._write(
            target, project, target.name, decide, dry_run=dry_run, in_background=in_background
        )
        if is_namespace and not dry_run:
            await self._empty(project, target.name)
        return outcome

    async def _empty(self, project: str, namespace: str) -> None:
        """Delete what is in a namespace, and then itself."""
        for kind in served_kinds():
            if not kind.namespaced:
                continue
            listed = list(self._objects.listed(kind.storage_key, project, namespace))
            for one in listed:
                target = ResourceTarget(kind, namespace, one.name)
                try:
                    await self.delete(target, project, {}, dry_run=False)
                except ApiRefusalError as error:
                    if error.code != 404:  # somebody else was faster
                        raise
        await self.release_namespace(project, namespace)

    async def release_namespace(self, project: str, namespace: str) -> None:
        """Remove a namespace that is being deleted, if nothing is in it any more."""
        key = ObjectKeyInStore(_NAMESPACES, project, "", namespace)

        def decide(live: StoredObject | None) -> JsonObject | None:
            if live is None:
                raise ServedObjects.unchanged()
            metadata = live.value()["metadata"]
            is_empty = not any(
                next(self._objects.listed(kind.storage_key, project, namespace), None)
                for kind in served_kinds()
                if kind.namespaced
            )
            if not metadata.get("deletionTimestamp") or metadata.get("finalizers") or not is_empty:
                raise ServedObjects.unchanged()
            return None

        found = self._objects.get(key)
        if found is not None and b'"deletionTimestamp"' in found.raw:
            await self._objects.write(key, decide)

    def new_stamp(self) -> Stamp:
        """Return time and random parts for a write."""
        return self._stamp()

    def decided_from_file(
        self, request: WriteRequest, live: StoredObject | None, body: JsonObject
    ) -> WriteResult:
        """Return what an object of a file makes of the stored one."""
        if live is None:
            return writes.create(request, body)
        before = live.value()
        version = before["metadata"]["resourceVersion"]
        metadata = {**body["metadata"], "resourceVersion": version}
        return writes.update(request, before, {**body, "metadata": metadata})

    async def ensure_project(self, project: str) -> None:
        """Create the namespace ``default`` of a project, if there is none."""
        key = ObjectKeyInStore(_NAMESPACES, project, "", DEFAULT_NAMESPACE)
        if self._objects.get(key) is not None:
            return
        kind = stored_kind(_NAMESPACES)
        body = {"apiVersion": "v1", "kind": kind.kind, "metadata": {"name": DEFAULT_NAMESPACE}}
        place = ObjectPlace(project, "", "")
        request = WriteRequest(kind, place, WriteOptions("relay"), self._stamp())
        made = writes.create(request, body).value

        def decide(live: StoredObject | None) -> JsonObject:
            if live is not None:
                raise ServedObjects.unchanged()
            return made

        await self._objects.write(key, decide)

    def _request(self, target: ResourceTarget, project: str, options: WriteOptions) -> WriteRequest:
        place = ObjectPlace(project, target.namespace, target.name)
        return WriteRequest(target.kind, place, options, self._stamp(), target.subresource)

    async def _write(
        self,
        target: ResourceTarget,
        project: str,
        name: str,
        decide: Callable[[StoredObject | None], WriteResult],
        *,
        dry_run: bool,
        in_background: bool = False,
    ) -> ChangeOutcome:
        kind = target.kind
        key = ObjectKeyInStore(kind.storage_key, project, target.namespace, name)

        def of_the_api(live: StoredObject | None) -> WriteResult:
            if target.subresource:
                return decide(live)  # the status of what a file says is not the file's
            if live is not None:
                _refuse_file_object(kind, live)
            result = decide(live)
            _refuse_file_annotation(kind, name, result)
            return result

        if dry_run:
            result = of_the_api(self._objects.get(key))
            return _outcome(kind, result, None)
        results: list[WriteResult] = []

        def decided(live: StoredObject | None) -> JsonObject | None:
            result = of_the_api(live)
            results.append(result)
            if not result.is_changed:
                raise ServedObjects.unchanged()
            return None if result.is_deleted else result.value

        stored = await self._objects.write(key, decided, in_background=in_background)
        (result,) = results
        assert stored is not None, "what was decided on exists"
        if result.is_deleted and kind.namespaced:
            await self.release_namespace(project, target.namespace)
        # A deleted object is shown as the write left it, with the version that it had.
        return _outcome(kind, result, None if result.is_deleted else stored)


def _outcome(kind: ResourceKind, result: WriteResult, stored: StoredObject | None) -> ChangeOutcome:
    """Return what is answered: the stored object, or the result of the write where it is None."""
    if stored is not None:
        shown = stored.shown_value()
    else:
        shown = masked(result.value) if kind.storage_key == SECRETS else result.value
    return ChangeOutcome(shown, warnings=result.warnings, is_deleted=result.is_deleted)


def file_of(one: StoredObject) -> str:
    """Return the file from which an object was read, "" for one of the API."""
    if FILE_ANNOTATION.encode() not in one.raw:
        return ""
    annotations = one.value()["metadata"].get("annotations", {})
    return str(annotations.get(FILE_ANNOTATION, ""))


def _refuse_file_object(kind: ResourceKind, live: StoredObject) -> None:
    """Raise ApiRefusalError for an object that is read from a file."""
    file = file_of(live)
    if file:
        raise forbidden(kind.names, live.name, f"it is read from the file {file}: change that")


def _refuse_file_annotation(kind: ResourceKind, name: str, result: WriteResult) -> None:
    """Raise ApiRefusalError for an object that claims to be read from a file."""
    if FILE_ANNOTATION in result.value["metadata"].get("annotations", {}):
        field_name = f"metadata.annotations[{FILE_ANNOTATION}]"
        raise invalid(kind.names, name, [forbidden_field(field_name, "only the relay sets it")])


def _terminating(value: JsonObject, stamp: Stamp) -> JsonObject:
    metadata = {**value["metadata"], "deletionTimestamp": stamp.now}
    return {**value, "metadata": metadata, "status": {"phase": "Terminating"}}
