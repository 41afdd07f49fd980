"""Answer get and list.

A list is a snapshot of one version. Its pages continue where the last one ended, in the state of
their own moment, under the version of the first page: a watch from there brings what changed in
between. A token whose version is no longer in the ring of events is refused with 410.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.apiserver.access.limits import Usage
from relay.apiserver.access.principals import EVERY_PROJECT
from relay.apiserver.http.answers import HEADERS, AnswerForm, encode, json_answer
from relay.apiserver.http.request_target import ReadParameters, ResourceTarget
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import (
    bad_request,
    expired,
    not_found,
    version_too_large,
)
from relay.apiserver.objects.kinds import HISTORY, ResourceKind
from relay.apiserver.objects.object_bytes import metadata_of, status_of, with_status
from relay.apiserver.objects.selectors import (
    FieldQuery,
    LabelQuery,
    parse_field_selector,
    parse_label_selector,
)
from relay.apiserver.objects.table import (
    TABLE_VERSION,
    column_definitions,
    partial_metadata,
    row,
    shows_status_alone,
    table,
)
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.event_ring import StoredObject
from relay.apiserver.store.served_objects import ServedObjects
from relay.runtime.event_loop import WorkSlice
from relay.runtime.turn_queue import TurnQueue

PROJECT_ANNOTATION: Final = "telemetry.datumapis.com/project"
_READINGS_MAX: Final = 1000
"""Readings that are remembered for dry runs; the oldest are forgotten first."""
_WRITE_BYTES: Final = 1024 * 1024
_WHOLE_BYTES_MAX: Final = 2 * 1024 * 1024
"""Largest list that is sent at once."""
_PROJECTS_SHOWN: Final = 5
WRITE_TIMEOUT_S: Final = 60.0
"""Time that a client may take to read a mebibyte of a list."""

Clock = Callable[[], float]
ComputedStatus = Callable[[ResourceKind, StoredObject], bytes | None]
"""Returns an object's status (JSON, keys in order) with what is computed when it is read.

None: it is shown as it is stored. What is computed never changes a version.
"""


History = Callable[[ResourceKind, StoredObject], JsonObject]
"""Returns the answer of an object's subresource ``history``."""


def nothing_computed(kind: ResourceKind, one: StoredObject) -> bytes | None:
    """Return None: every status is shown as it is stored."""
    del kind, one
    return None


@dataclass(frozen=True, slots=True)
class Selection:
    """The objects of a list or watch; ``project`` may be ``*``."""

    target: ResourceTarget
    project: str
    labels: LabelQuery
    fields: FieldQuery
    computed: ComputedStatus = nothing_computed
    with_values: bool = False
    """True if Secrets have their values."""

    def matches(self, one: StoredObject) -> bool:
        """Return True if an object is selected; its project is right already."""
        namespace = self.target.namespace
        if namespace and one.namespace != namespace:
            return False
        if not self.labels.matches(one.labels):
            return False
        if not self.fields.terms:
            return True
        name = self.fields.exact("metadata.name")
        if name and name != one.name:
            return False
        return self.fields.matches(one.shown_value())

    async def selected(
        self, stored: Sequence[StoredObject], turns: TurnQueue, most: int = 0
    ) -> list[StoredObject]:
        """Return the objects that are selected, ``most`` of them unless it is 0."""
        found: list[StoredObject] = []
        pace = WorkSlice()
        for one in stored:
            if self.matches(one):
                found.append(one)
                if len(found) == most:
                    break
            if pace.is_over:
                await turns.turn(self.project)
                pace.begin()
        return found

    def includes(self, project: str) -> bool:
        """Return True for a project of the selection."""
        return self.project in (EVERY_PROJECT, project)

    def shown(self, one: StoredObject) -> bytes:
        """Return an object as JSON; one of several projects names its own."""
        status = self.computed(self.target.kind, one)
        shown = one.raw if self.with_values else one.shown
        if status is not None:
            shown = with_status(shown, status)
        if self.project != EVERY_PROJECT:
            return shown
        value = msgspec.json.decode(shown)
        metadata = value["metadata"]
        annotations = {**metadata.get("annotations", {}), PROJECT_ANNOTATION: one.project}
        return encode({**value, "metadata": {**metadata, "annotations": annotations}})

    def shown_value(self, one: StoredObject) -> JsonObject:
        """Return an object as it is shown."""
        value: JsonObject = msgspec.json.decode(self.shown(one))
        return value

    def metadata(self, one: StoredObject) -> bytes:
        """Return an object's metadata alone."""
        if self.project == EVERY_PROJECT:
            return encode(partial_metadata(self.shown_value(one)))
        return encode(partial_metadata({"metadata": msgspec.Raw(metadata_of(one.shown))}))

    def row(self, one: StoredObject, now: float, included: str) -> bytes:
        """Return an object's row of a Table."""
        kind = self.target.kind
        if self.project == EVERY_PROJECT or included == "Object" or not shows_status_alone(kind):
            return encode(row(kind, self.shown_value(one), now, included))
        status = self.computed(kind, one)
        metadata = metadata_of(one.shown)
        value = {
            "metadata": msgspec.json.decode(metadata),
            "status": status_of(one.shown) if status is None else msgspec.json.decode(status),
        }
        made = row(kind, value, now, "None")
        if included != "None":
            made["object"] = partial_metadata({"metadata": msgspec.Raw(metadata)})
        return encode(made)


def selection(
    target: ResourceTarget,
    project: str,
    parameters: ReadParameters,
    computed: ComputedStatus = nothing_computed,
    *,
    with_values: bool = False,
) -> Selection:
    """Return what a request selects; raise ApiRefusalError for a selector that is none."""
    return Selection(
        target,
        project,
        parse_label_selector(parameters.label_selector),
        parse_field_selector(parameters.field_selector, target.kind),
        computed,
        with_values,
    )


def version_of(text: str) -> int:
    """Return a ``resourceVersion`` as a number, 0 for none; raise ApiRefusalError."""
    if not text:
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_request(f'resourceVersion: Invalid value: "{text[:80]}": must be a number')
    return int(text)


def object_body(target: ResourceTarget, shown: bytes, form: AnswerForm, now: float) -> bytes:
    """Return one object in the form that was asked for."""
    if not form.transform:
        return shown
    value = json.loads(shown)
    if form.transform == "Table":
        version = value["metadata"].get("resourceVersion")
        metadata = {"resourceVersion": version} if version else {}
        return encode(table(target.kind, [value], metadata, now))
    return encode(partial_metadata(value))


class ComputedStatuses:
    """Adds to objects of answers what is computed of their status. Lives on the event loop.

    The answer to a dry run has the counters of the same user's last reading of the object: so
    ``kubectl diff``, which compares the two, shows what the change would do and nothing else.
    """

    def __init__(self, computed: ComputedStatus) -> None:
        self._computed = computed
        self._read: OrderedDict[tuple[str, ...], tuple[Any, bytes | None]] = OrderedDict()
        """Statuses as they are stored, and as they were shown."""

    def __repr__(self) -> str:
        return f"<ComputedStatuses: {len(self._read)} readings>"

    def read_by(self, user: str) -> ComputedStatus:
        """Return what computes a status for a user's reading of one object, and remembers it."""

        def computed(kind: ResourceKind, one: StoredObject) -> bytes | None:
            found = self._computed(kind, one)
            if kind.has_status:
                place = (user, kind.storage_key, one.project, one.namespace, one.name)
                self._read[place] = (status_of(one.shown), found)
                self._read.move_to_end(place)
                if len(self._read) > _READINGS_MAX:
                    self._read.popitem(last=False)
            return found

        return computed

    def added(
        self, user: str, kind: ResourceKind, project: str, value: JsonObject, *, dry_run: bool
    ) -> bytes:
        """Return an object after a write, as JSON, with what is computed of its status."""
        raw = encode(value)
        if not kind.has_status:
            return raw
        metadata = value["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        read = self._read.get((user, kind.storage_key, project, namespace, name))
        if dry_run and read is not None and read[0] == value.get("status", {}):
            found = read[1]
        else:
            found = self._computed(kind, StoredObject(project, namespace, name, 0, raw, raw, {}))
        return raw if found is None else with_status(raw, found)


class Reader:
    """Answers get and list from the store; ``clock`` is Unix time."""

    def __init__(
        self,
        objects: ServedObjects,
        clock: Clock,
        usage: Usage,
        computed: ComputedStatus = nothing_computed,
        history: History | None = None,
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._usage = usage
        self._computed = computed
        self._history = history

    def __repr__(self) -> str:
        return f"<Reader of {self._objects!r}>"

    def get(
        self,
        target: ResourceTarget,
        project: str,
        form: AnswerForm,
        version: str,
        computed: ComputedStatus,
        *,
        with_values: bool = False,
    ) -> web.Response:
        """Answer with one object, or its history; raise ApiRefusalError where there is none.

        Of all projects at once, the one that has it is meant.
        """
        self._check_version(version_of(version))
        kind = target.kind.storage_key
        projects = self._objects.projects(kind) if project == EVERY_PROJECT else [project]
        keys = [ObjectKeyInStore(kind, one, target.namespace, target.name) for one in projects]
        found = [one for key in keys if (one := self._objects.get(key)) is not None]
        if not found:
            raise not_found(target.kind.names, target.name)
        if len(found) > 1:
            named = ", ".join(one.project for one in found[:_PROJECTS_SHOWN])
            message = f"{len(found)} projects have it, such as {named}: name one in the path"
            raise bad_request(f'{target.kind.names.qualified} "{target.name}": {message}')
        if target.subresource == HISTORY:
            assert self._history is not None, "the subresource is not served without"
            return json_answer(self._history(target.kind, found[0]))
        whole = Selection(target, project, LabelQuery(), FieldQuery(), computed, with_values)
        return json_answer(object_body(target, whole.shown(found[0]), form, self._clock()))

    def _check_version(self, version: int) -> None:
        if version > self._objects.version:
            raise version_too_large(version, self._objects.version)

    async def list_objects(
        self,
        request: web.BaseRequest,
        target: ResourceTarget,
        project: str,
        parameters: ReadParameters,
        form: AnswerForm,
        included: str,
        *,
        with_values: bool = False,
    ) -> web.StreamResponse:
        """Answer with a list; a large one is sent in parts."""
        wanted = selection(target, project, parameters, self._computed, with_values=with_values)
        kind = target.kind
        ring = self._objects.ring(kind.storage_key, project)
        version = self._objects.version
        start = ("", "", "")
        if parameters.continue_token:
            version, start = _read_token(parameters.continue_token)
            if version < ring.oldest or version > self._objects.version:
                raise expired(
                    "The provided continue parameter is too old to display a consistent list "
                    "result. You must start a new list without the continue parameter."
                )
        else:
            asked = version_of(parameters.version)
            self._check_version(asked)
            if parameters.match == "Exact" and asked != version:
                if asked < ring.oldest or ring.after(asked, 1):
                    raise expired(f"The resourceVersion for the provided list is too old: {asked}")
                version = asked
        page, left = await self._page(wanted, start, parameters.limit)
        metadata: JsonObject = {"resourceVersion": str(version)}
        if left:
            last = page[-1]
            metadata["continue"] = _token(version, (last.project, last.namespace, last.name))
            if not wanted.labels.requirements and not wanted.fields.terms:
                metadata["remainingItemCount"] = left
        with self._usage.carried(project, sum(len(one.shown) for one in page)):
            return await self._answer(request, wanted, page, metadata, form, included)

    async def _page(
        self, wanted: Selection, start: tuple[str, str, str], limit: int
    ) -> tuple[list[StoredObject], int]:
        """Return what is selected after a place, and how many objects may follow; 0: none."""
        stored = self._snapshot(wanted, start)
        if not limit:
            return await wanted.selected(stored, self._objects.turns), 0
        page = await wanted.selected(stored, self._objects.turns, limit + 1)
        if len(page) <= limit:
            return page, 0
        return page[:limit], len(stored) - limit

    def _snapshot(self, wanted: Selection, start: tuple[str, str, str]) -> list[StoredObject]:
        kind = wanted.target.kind.storage_key
        projects = [wanted.project]
        if wanted.project == EVERY_PROJECT:
            projects = self._objects.projects(kind)
        found: list[StoredObject] = []
        for project in projects:
            if project >= start[0]:
                after = start[1:] if project == start[0] else ("", "")
                found += self._objects.listed(kind, project, wanted.target.namespace, after)
        return found

    async def _answer(
        self,
        request: web.BaseRequest,
        wanted: Selection,
        page: list[StoredObject],
        metadata: JsonObject,
        form: AnswerForm,
        included: str,
    ) -> web.StreamResponse:
        kind, now = wanted.target.kind, self._clock()
        name, version, field = kind.list_kind, kind.api_version, "items"
        rest: JsonObject = {}
        if form.transform == "Table":
            name, version, field = "Table", TABLE_VERSION, "rows"
            rest["columnDefinitions"] = column_definitions(kind)
        elif form.transform:
            name, version = "PartialObjectMetadataList", TABLE_VERSION
        head = encode({"apiVersion": version, "kind": name, "metadata": metadata, **rest})
        parts: list[bytes] = []
        pace = WorkSlice()
        for one in page:
            if form.transform == "Table":
                parts.append(wanted.row(one, now, included))
            elif form.transform:
                parts.append(wanted.metadata(one))
            else:
                parts.append(wanted.shown(one))
            if pace.is_over:
                await self._objects.turns.turn(wanted.project)
                pace.begin()
        pieces = [head[:-1], f',"{field}":['.encode(), b",".join(parts), b"]}"]
        if sum(map(len, pieces)) <= _WHOLE_BYTES_MAX:
            return json_answer(b"".join(pieces))
        return await _stream(request, pieces)


async def _stream(request: web.BaseRequest, pieces: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"})
    response.content_length = sum(map(len, pieces))
    await response.prepare(request)
    try:
        await _write(response, pieces)
    except TimeoutError:
        raise ConnectionAbortedError("the client does not read its list") from None
    return response


async def _write(response: web.StreamResponse, pieces: list[bytes]) -> None:
    for piece in pieces:
        for index in range(0, len(piece), _WRITE_BYTES):
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await response.write(piece[index : index + _WRITE_BYTES])
    await response.write_eof()


def _token(version: int, place: tuple[str, str, str]) -> str:
    body = json.dumps({"v": version, "after": place}, separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def _read_token(text: str) -> tuple[int, tuple[str, str, str]]:
    try:
        padded = text + "=" * (-len(text) % 4)
        value = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
        project, namespace, name = value["after"]
        version = value["v"]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise bad_request("invalid continue token: continue key is not valid") from error
    place = (project, namespace, name)
    if not isinstance(version, int) or not all(isinstance(one, str) for one in place):
        raise bad_request("invalid continue token: continue key is not valid")
    return version, place
