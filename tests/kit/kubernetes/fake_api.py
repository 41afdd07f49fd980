"""An API server of few words for tests: lists, watches, writes, and scripted faults.

It keeps what a client can tell apart: one counter of resource versions, pages with continue tokens
of one snapshot, streaming lists, bookmarks, 410 for what was compacted, optimistic writes, and
connections, which it counts. It validates nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.kit.http.loopback_server import LoopbackServer

Document = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Fault:
    """What happens to the next ``times`` requests that ``matches`` admits."""

    answer: Answer
    times: int = 1
    matches: Callable[[web.Request], bool] = lambda _: True


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Kind:
    """The objects of one collection and the events of its history."""

    objects: dict[tuple[str, str], Document] = field(default_factory=dict)
    events: deque[tuple[int, str, Document]] = field(default_factory=deque)
    compacted: int = 0
    """Resource version up to which events are forgotten."""


def status_document(code: int, reason: str, message: str = "", **details: object) -> Document:
    """A Status object."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message or reason,
        "reason": reason,
        "code": code,
        "details": details,
    }


def failing(code: int, reason: str = "", *, retry_after: str = "") -> Answer:
    """Answer with a Status."""

    async def answer(_: web.Request) -> web.StreamResponse:
        headers = {"Retry-After": retry_after} if retry_after else {}
        return web.json_response(status_document(code, reason), status=code, headers=headers)

    return answer


def streaming(*lines: bytes, hang: bool = False) -> Answer:
    """Answer a watch with these very lines, then end it or say nothing more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        if hang:
            await asyncio.Event().wait()
        return response

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    """Close the connection without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class FakeApi(LoopbackServer):
    """Serves while it is open; objects outlive that."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(method="*", tls=tls)
        self.kinds: dict[str, Kind] = {}
        self.faults: list[Fault] = []
        self.requests: list[Seen] = []
        self.connections_max = 0
        self.connections_by_prefix: dict[str, int] = {}
        """Most connections at a time that asked below a path's prefix, such as a project's."""
        self._prefixes: dict[asyncio.BaseTransport, str] = {}
        self.streaming_lists = True
        """False: ``sendInitialEvents`` is refused with 422, as by servers without the feature."""
        self.ignores_initial_events = False
        """True: the parameter is ignored, as by servers that do not know it."""
        self.bookmark_s = 0.05
        self.watch_s_max = 60.0
        self.page_max = 10_000
        self.version = 100
        self._uids = 0
        self._snapshots: dict[str, tuple[list[Document], int]] = {}
        self._changed = asyncio.Event()

    # Objects

    def kind(self, path: str) -> Kind:
        """The collection at a path without namespace: ``/apis/g/v/plural``."""
        return self.kinds.setdefault(path, Kind())

    def new(self, name: str, namespace: str = "default", **spec: object) -> Document:
        """An object that was never seen before."""
        self._uids += 1
        metadata = {"name": name, "namespace": namespace, "uid": f"uid-{self._uids}"}
        if not namespace:
            del metadata["namespace"]
        return {"metadata": {**metadata, "generation": 1}, "spec": spec}

    def put(self, path: str, document: Document) -> Document:
        """Create or replace an object; the generation grows with the spec."""
        kind = self.kind(path)
        metadata = document["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        before = kind.objects.get(key)
        self.version += 1
        stored: dict[str, Any] = json.loads(json.dumps(document))
        own = stored["metadata"]
        own["resourceVersion"] = str(self.version)
        own.setdefault("generation", 1)
        if before is not None and before.get("spec") != stored.get("spec"):
            own["generation"] = before["metadata"]["generation"] + 1
        kind.objects[key] = stored
        self._tell(kind, "MODIFIED" if before else "ADDED", stored)
        return stored

    def delete(self, path: str, name: str, namespace: str = "default") -> None:
        """Delete an object, or note that it is to be where finalizers hold it."""
        kind = self.kind(path)
        held = kind.objects[namespace, name]
        if held["metadata"].get("finalizers"):
            metadata = {**held["metadata"], "deletionTimestamp": "2026-11-29T00:00:00Z"}
            self.put(path, {**held, "metadata": metadata})
            return
        gone = kind.objects.pop((namespace, name))
        self.version += 1
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        self._tell(kind, "DELETED", gone)

    def compact(self) -> None:
        """Forget all events: older resource versions are answered with 410 from now on."""
        for kind in self.kinds.values():
            kind.events.clear()
            kind.compacted = self.version

    def _tell(self, kind: Kind, verb: str, document: Document) -> None:
        kind.events.append((self.version, verb, document))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # Serving

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def seen(self, *, watch: bool | None = None, method: str = "GET") -> list[Seen]:
        """The requests so far; watches or others only, if asked."""
        return [
            one
            for one in self.requests
            if one.method == method and watch in (None, one.query.get("watch") == "true")
        ]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note a request and answer it, or do as a fault says."""
        self._count_connections(request)
        self.requests.append(
            Seen(
                request.method,
                request.path,
                dict(request.query),
                dict(request.headers),
                await request.read(),
            )
        )
        for fault in self.faults:
            if fault.times > 0 and fault.matches(request):
                fault.times -= 1
                return await _answered(fault.answer(request))
        if _is_group(request.path):
            plurals = {path.rpartition("/")[2] for path in self.kinds if path.startswith("/apis/")}
            return web.json_response({"resources": [{"name": one} for one in sorted(plurals)]})
        path, namespace, name, subresource = _split(request.path)
        if request.headers.get("Content-Type") == "application/json-patch+json":
            return self._patch(path, namespace, name, json.loads(await request.read()))
        if request.method in ("PUT", "POST", "PATCH"):
            return await self._write(request, path, namespace, name, subresource)
        if request.method == "DELETE":
            return await self._delete(request, path, namespace, name)
        if name:
            found = self.kind(path).objects.get((namespace, name))
            if found is None:
                return web.json_response(status_document(404, "NotFound"), status=404)
            return web.json_response(found)
        if request.query.get("watch") == "true":
            return await _answered(self._watch(request, path, namespace))
        return self._list(request, path, namespace)

    def _count_connections(self, request: web.Request) -> None:
        assert self._runner is not None
        assert self._runner.server is not None
        live = {one.transport for one in self._runner.server.connections} - {None}
        self.connections_max = max(self.connections_max, len(live))
        assert request.transport is not None
        prefix = request.path.partition("/api")[0]
        self._prefixes[request.transport] = prefix
        mine = [one for one, its in self._prefixes.items() if its == prefix]
        for gone in [one for one in mine if one not in live]:
            del self._prefixes[gone]
        here = sum(one in live for one in mine)
        self.connections_by_prefix[prefix] = max(self.connections_by_prefix.get(prefix, 0), here)

    def _list(self, request: web.Request, path: str, namespace: str) -> web.StreamResponse:
        token = request.query.get("continue", "")
        if token:
            snapshot, _, offset_text = token.partition("/")
            if snapshot not in self._snapshots:
                return web.json_response(status_document(410, "Expired"), status=410)
            items, version = self._snapshots[snapshot]
            offset = int(offset_text)
        else:
            items = _within(self.kind(path), namespace)
            version, offset = self.version, 0
            snapshot = str(len(self._snapshots))
            self._snapshots[snapshot] = (items, version)
        limit = min(int(request.query.get("limit", "500")), self.page_max)
        page = items[offset : offset + limit]
        more = offset + limit < len(items)
        metadata = {"resourceVersion": str(version)}
        if more:
            metadata["continue"] = f"{snapshot}/{offset + limit}"
        if "PartialObjectMetadata" in request.headers.get("Accept", ""):
            page = [{"metadata": item["metadata"]} for item in page]
        return web.json_response({"items": page, "metadata": metadata})

    def forget_snapshots(self) -> None:
        """Let every continue token expire."""
        self._snapshots.clear()

    async def _watch(self, request: web.Request, path: str, namespace: str) -> web.StreamResponse:
        kind = self.kind(path)
        initial = request.query.get("sendInitialEvents") == "true"
        if initial and not self.streaming_lists:
            return web.json_response(
                status_document(422, "Invalid", "sendInitialEvents is forbidden"), status=422
            )
        since = int(request.query.get("resourceVersion") or 0)
        if since and since < kind.compacted:
            return web.json_response(status_document(410, "Expired"), status=410)
        response = web.StreamResponse()
        await response.prepare(request)
        metadata_only = "PartialObjectMetadata" in request.headers.get("Accept", "")

        async def send(verb: str, document: Document) -> None:
            if metadata_only and verb not in ("BOOKMARK", "ERROR"):
                document = {"metadata": document["metadata"]}
            line = json.dumps({"type": verb, "object": document}).encode()
            await response.write(line + b"\n")

        if not since:
            since = self.version
            for document in _within(kind, namespace):
                await send("ADDED", document)
            if initial and not self.ignores_initial_events:
                await send("BOOKMARK", bookmark(since, initial_end=True))
        asked_s = float(request.query["timeoutSeconds"])
        loop = asyncio.get_running_loop()
        end = loop.time() + min(asked_s, self.watch_s_max)
        while loop.time() < end:
            changed = self._changed
            if since < kind.compacted:  # events are gone that were not sent
                await send("ERROR", status_document(410, "Expired"))
                return response
            for version, verb, document in list(kind.events):
                if version > since:
                    since = version
                    if not namespace or document["metadata"].get("namespace") == namespace:
                        await send(verb, document)
            with contextlib.suppress(TimeoutError):
                left_s = max(0.001, end - loop.time())
                await asyncio.wait_for(changed.wait(), min(self.bookmark_s, left_s))
            if changed.is_set():
                continue
            since = self.version
            await send("BOOKMARK", bookmark(since))
        return response

    async def _write(
        self, request: web.Request, path: str, namespace: str, name: str, subresource: str
    ) -> web.StreamResponse:
        document = json.loads(await request.read())
        name = name or document["metadata"]["name"]
        kind = self.kind(path)
        known = kind.objects.get((namespace, name))
        metadata = document.setdefault("metadata", {})
        if request.method == "POST" and known is not None:
            return web.json_response(status_document(409, "AlreadyExists"), status=409)
        if request.method != "POST" and known is None:
            return web.json_response(status_document(404, "NotFound"), status=404)
        for word in ("resourceVersion", "uid"):
            if known and metadata.get(word) not in (None, "", known["metadata"][word]):
                return web.json_response(status_document(409, "Conflict"), status=409)
        if known is not None and subresource == "status":
            document = {**known, "status": document["status"]}
        elif known is not None:
            if request.headers.get("Content-Type", "").startswith("application/apply-patch"):
                before = known["metadata"].get("finalizers", [])
                added = [one for one in metadata.get("finalizers", []) if one not in before]
                if added and "deletionTimestamp" in known["metadata"]:
                    return web.json_response(status_document(422, "Invalid"), status=422)
                metadata["finalizers"] = before + added
            document = {**known, **document, "metadata": {**known["metadata"], **metadata}}
        else:
            self._uids += 1
            metadata.update({"namespace": namespace, "name": name, "uid": f"uid-{self._uids}"})
        stored = self.put(path, document)
        return web.json_response(stored, status=201 if known is None else 200)

    def _patch(
        self, path: str, namespace: str, name: str, operations: list[Document]
    ) -> web.StreamResponse:
        """Apply ``test`` and ``remove`` of a JSON patch; the last finalizer lets an object go."""
        known = self.kind(path).objects.get((namespace, name))
        if known is None:
            return web.json_response(status_document(404, "NotFound"), status=404)
        document = json.loads(json.dumps(known))
        for one in operations:
            *parents, last = one["path"].strip("/").split("/")
            place: Any = document
            for word in parents:
                place = place.get(word, {})
            index = int(last) if isinstance(place, list) else last
            there = place[index] if not isinstance(place, list) or index < len(place) else None
            if one["op"] == "test" and there != one["value"]:
                return web.json_response(status_document(422, "Invalid"), status=422)
            if one["op"] == "remove":
                del place[index]
        stored = self.put(path, document)
        if "deletionTimestamp" in stored["metadata"] and not stored["metadata"]["finalizers"]:
            self.delete(path, name, namespace)
        return web.json_response(stored)

    async def _delete(
        self, request: web.Request, path: str, namespace: str, name: str
    ) -> web.StreamResponse:
        known = self.kind(path).objects.get((namespace, name))
        if known is None:
            return web.json_response(status_document(404, "NotFound"), status=404)
        body = await request.read()
        for word, value in (json.loads(body) if body else {}).get("preconditions", {}).items():
            if known["metadata"][word] != value:
                return web.json_response(status_document(409, "Conflict"), status=409)
        self.delete(path, name, namespace)
        return web.json_response({"kind": "Status", "status": "Success"})


async def _answered(answer: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """An answer, even if the client does not want it any more."""
    try:
        return await answer
    except ConnectionResetError:
        return web.Response()


def kubeconfig_of(url: str) -> str:
    """The text of a kubeconfig."""
    return json.dumps(
        {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


def bookmark(version: int, *, initial_end: bool = False) -> Document:
    """The object of a bookmark."""
    metadata: Document = {"resourceVersion": str(version)}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"metadata": metadata}


def _within(kind: Kind, namespace: str) -> list[Document]:
    items = [one for (within, _), one in kind.objects.items() if namespace in ("", within)]
    return sorted(items, key=lambda one: json.dumps(one["metadata"]["name"]))


def _is_group(path: str) -> bool:
    """Whether a path is that of a group and version, without a prefix."""
    return path.startswith("/apis/") and path.count("/") == 3


def _split(path: str) -> tuple[str, str, str, str]:
    """Collection, namespace, name and subresource of a path."""
    parts = path.strip("/").split("/")
    while parts and parts[0] not in ("api", "apis"):
        parts.pop(0)  # a prefix, such as a project's
    root, rest = (parts[:2], parts[2:]) if parts[0] == "api" else (parts[:3], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    return "/" + "/".join((*root, plural)), namespace, name, subresource
