"""The exporters that questions are about: objects of the API by name, or objects that are given.

An exporter belongs to the project and namespace of the request; an object that names another
namespace is refused. Secrets are looked up in this namespace alone: among the API's objects, then
where the relay finds those of exporters of files.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import msgspec

from relay.apiserver.http.actions import ActionRequest
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import (
    ApiRefusalError,
    Cause,
    invalid,
    required,
    too_many_requests,
    unknown_reference,
    wrong_type,
)
from relay.apiserver.objects.kinds import ResourceKind, served_kinds
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.event_ring import StoredObject
from relay.apiserver.store.served_objects import SECRETS, ServedObjects
from relay.config.exporter.loading.resource_reader import EXPORTER_KINDS
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter, SecretRef, Sink, id_of
from relay.config.yaml.document import Document
from relay.control.preview.manifest import read_document
from relay.runtime.errors import ConfigError, MissingSecretError, OverloadedError
from relay.runtime.event_loop import run_in_thread
from relay.sink.http.credentials import SecretLookup

EXPORTER_BYTES_MAX: Final = 256 * 1024
"""Largest exporter that is given as an object, as JSON; as at the admin listener."""
_EXPORTER: Final = "Exporter"
_CAUSES_MAX: Final = 50
_MESSAGE_CHARS_MAX: Final = 500


class Subjects:
    """Finds exporters and Secrets among the objects of the API.

    ``running`` returns a running exporter by its id, None if there is none.
    """

    def __init__(self, objects: ServedObjects, running: Callable[[str], Exporter | None]) -> None:
        self._objects = objects
        self._running = running

    def __repr__(self) -> str:
        return f"<Subjects of {self._objects!r}>"

    def stored(self, kind: str, project: str, namespace: str, name: str) -> StoredObject | None:
        """Return an object by its place, None if there is none."""
        for one in _kinds_of(kind):
            key = ObjectKeyInStore(one.storage_key, project, namespace, name)
            found = self._objects.get(key)
            if found is not None:
                return found
        return None

    async def named(self, request: ActionRequest, name: str) -> tuple[str, StoredObject]:
        """Return the exporter's id and its object, by a name in ``spec.exporter``."""
        kind, own = kind_and_name(name)
        found = self.stored(kind, request.project, request.namespace, own)
        if found is None:
            raise refusal(request, unknown_reference("spec.exporter", name))
        return id_of(kind, request.project, request.namespace, own), found

    async def of_name(self, request: ActionRequest, name: str, *, need_sinks: bool) -> Exporter:
        """Return the exporter of a name in ``spec.exporter``; raise ApiRefusalError."""
        ident, found = await self.named(request, name)
        exporter = await self.read_stored(request, found, ident, need_sinks=need_sinks)
        if exporter is None:
            said = "Invalid value: it has faults: see its condition Accepted"
            raise refusal(request, Cause("spec.exporter", "FieldValueInvalid", said))
        return exporter

    async def given(
        self, request: ActionRequest, value: JsonObject, *, need_sinks: bool
    ) -> Exporter:
        """Return the exporter of an object in ``spec.exporter``; its type may be left out."""
        metadata = value.get("metadata")
        if not isinstance(metadata, dict):
            raise refusal(request, required("spec.exporter.metadata.name"))
        namespace = metadata.get("namespace") or request.namespace
        if namespace != request.namespace:
            said = f'Invalid value: must be the namespace of the request, "{request.namespace}"'
            field = "spec.exporter.metadata.namespace"
            raise refusal(request, Cause(field, "FieldValueInvalid", said))
        kind = value.get("kind", _EXPORTER)
        version = _kinds_of(kind)[0].api_version if kind in EXPORTER_KINDS else ""
        body = {
            "apiVersion": version,
            "kind": kind,
            **{key: own for key, own in value.items() if key != "status"},
            "metadata": {**metadata, "namespace": namespace},
        }
        with refusing(request, "spec.exporter"):
            return await read_exporter(body, request.project, need_sinks=need_sinks)

    async def read_stored(
        self, request: ActionRequest, found: StoredObject, ident: str, *, need_sinks: bool
    ) -> Exporter | None:
        """Return the exporter of a stored object, None for one with faults that does not run.

        One with faults runs as it was before; a policy with a faulty sink runs without that.
        """
        try:
            return await read_exporter(found.value(), request.project, need_sinks=need_sinks)
        except ConfigError:
            return self._running(ident)

    def secrets(self, exporter: Exporter, sink: Sink, running: SecretLookup) -> SecretLookup:
        """Return the lookup of a sink's Secrets; ``running`` is that of exporters that run."""
        project, namespace = exporter.project, exporter.namespace
        store = SecretStore()
        store.note_cluster(project, namespace)
        known: set[str] = set()
        for reference in sink.endpoint.references:
            key = ObjectKeyInStore(SECRETS, project, namespace, reference.name)
            found = self._objects.get(key)
            if found is not None and reference.name not in known:
                known.add(reference.name)
                secret = msgspec.convert(found.value(), _Secret)
                data = {name: base64.b64decode(text) for name, text in secret.data.items()}
                store.add(project, namespace, reference.name, data, secret.type)

        def lookup(reference: SecretRef, default_key: str) -> str:
            if reference.name not in known:
                try:
                    return running(reference, default_key)
                except MissingSecretError:
                    pass  # the store says how to create it here
            return store.get(project, namespace, reference, default_key)

        return lookup


class _Secret(msgspec.Struct):
    data: dict[str, str] = {}
    type: str = ""


def kind_and_name(text: str) -> tuple[str, str]:
    """Return kind and name of ``[ExportPolicy/]name``."""
    kind, slash, name = text.partition("/")
    if slash and kind in EXPORTER_KINDS:
        return kind, name
    return _EXPORTER, text


def name_or_object(request: ActionRequest, field: str) -> str | JsonObject | None:
    """Return a field of the spec that is a text or an object, None if it is not there."""
    value = request.spec.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise refusal(request, wrong_type(f"spec.{field}", "must be a name or an object"))
    if len(msgspec.json.encode(value)) > EXPORTER_BYTES_MAX:
        said = f"Too long: may not be more than {EXPORTER_BYTES_MAX} bytes"
        raise refusal(request, Cause(f"spec.{field}", "FieldValueTooLong", said))
    return value


def refusal(request: ActionRequest, *causes: Cause) -> ApiRefusalError:
    """Return 422 for a request whose spec has faults."""
    return invalid(request.kind.names, request.name, list(causes))


@contextmanager
def refusing(request: ActionRequest, place: str, inner: str = "") -> Iterator[None]:
    """Refuse a request for a limit of a tool with 429, for faults of a manifest with 422.

    ``place`` is that of the manifest in the request; or that of its field ``inner``, if it is set.
    """
    try:
        yield
    except OverloadedError as error:
        raise overloaded(error) from error
    except ConfigError as error:
        raise refusal(request, *_causes_of(error, place, inner)) from error


def _causes_of(error: ConfigError, place: str, inner: str = "") -> Iterator[Cause]:
    """Yield the faults of a manifest as causes; ``place`` and ``inner`` as in :func:`refusing`."""
    for fault in error.faults[:_CAUSES_MAX]:
        path = fault.path
        if inner:
            path = path.removeprefix(inner).lstrip(".") if path.startswith(inner) else ""
        message = fault.message[:_MESSAGE_CHARS_MAX]
        is_missing = message.startswith("is required")
        yield Cause(
            f"{place}.{path}".rstrip("."),
            "FieldValueRequired" if is_missing else "FieldValueInvalid",
            f"Required value: {message}" if is_missing else f"Invalid value: {message}",
        )


def overloaded(error: OverloadedError) -> ApiRefusalError:
    """Return 429 for a limit of a tool."""
    return too_many_requests(str(error), error.retry_after_s)


async def read_exporter(body: Any, project: str, *, need_sinks: bool) -> Exporter:
    """Return the exporter of a manifest; raise ConfigError with every fault."""
    document = Document.of_value(body, "")
    return await run_in_thread(partial(read_document, document, project, need_sinks=need_sinks))


def _kinds_of(kind: str) -> list[ResourceKind]:
    return [one for one in served_kinds() if one.kind == kind]
