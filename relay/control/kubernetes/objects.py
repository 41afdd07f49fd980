"""Read what a control plane sends: objects, list pages, and the lines of a watch. Pure.

Rules:

* An object that cannot be used is an :class:`Unusable` among the others; it never costs a
  neighbour. Only the frame around it, a page or a watch, can be malformed as a whole.
* An object is kept as JSON with sorted keys, without annotations, ``managedFields``,
  ``resourceVersion`` and status: what is read. So our own status write changes no content, and a
  list, a watch and the cache give equal bytes for equal objects. Of Secrets that are only watched
  for changes the version alone is kept.
* A line of a watch is bounded: a longer one is skipped to its end, and counts as unusable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from relay.control.kubernetes.errors import AnswerError, MalformedAnswerError, answer_error
from relay.runtime.excerpt import clipped, escaped

OBJECT_BYTES_MAX: Final = 3 * 1024 * 1024
"""Longest object; B. The server itself takes requests of at most 3 MiB, and etcd 1.5 MiB."""
SHOWN_CHARS_MAX: Final = 200
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"

Verb = Literal["ADDED", "MODIFIED", "DELETED"]
_VERBS: Final[tuple[Verb, ...]] = ("ADDED", "MODIFIED", "DELETED")
ObjectKey = tuple[str, str]
"""Namespace, "" for a kind without namespaces, and name."""


@dataclass(frozen=True, slots=True)
class ApiResource:
    """One kind of object; ``group`` is "" for the core API.

    ``versions_only``: of the content of its objects only the resource version is kept.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    versions_only: bool = False

    @property
    def api_version(self) -> str:
        """The value of ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of an object, or of the objects of one or (``""``) all namespaces."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        parts = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}{within}/{self.plural}{parts}"


class ApiObject(msgspec.Struct, frozen=True):
    """One object. ``content`` and ``status`` are JSON; the module's rules say of what.

    ``status`` is b"" if there is none, ``generation`` 0 for kinds without. ``deleting``: somebody
    has asked for its deletion, and finalizers hold it.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    content: bytes
    status: bytes = b""
    deleting: bool = False
    finalizers: tuple[str, ...] = ()

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return self.namespace, self.name

    def document(self) -> dict[str, Any]:
        """Return the content as a document."""
        found: dict[str, Any] = msgspec.json.decode(self.content)
        return found


class Unusable(msgspec.Struct, frozen=True):
    """Something that is no usable object; ``key`` is None where even that cannot be read.

    ``relist``: it may have been a deletion, so only a new list can tell.
    """

    why: str
    key: ObjectKey | None = None
    relist: bool = False


class ObjectEvent(msgspec.Struct, frozen=True):
    """One event of a watch about an object."""

    verb: Verb
    object: ApiObject


class Bookmark(msgspec.Struct, frozen=True):
    """Everything before this resource version was sent; ``initial_end`` ends a streaming list."""

    resource_version: str
    initial_end: bool = False


WatchEvent = ObjectEvent | Bookmark | Unusable | AnswerError


class ListPage(msgspec.Struct, frozen=True):
    """One page of a list; ``items`` are JSON texts for :func:`read_object`."""

    items: tuple[bytes, ...]
    resource_version: str
    continue_token: str


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    uid: str
    resource_version: str
    namespace: str = ""
    generation: int = 0


class _Object(msgspec.Struct):
    metadata: _Metadata


class _NameOnly(msgspec.Struct):
    name: str
    namespace: str = ""


class _Named(msgspec.Struct):
    metadata: _NameOnly


class _ListMetadata(msgspec.Struct, rename={"resource_version": "resourceVersion"}):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _BookmarkMetadata(msgspec.Struct, rename="camel"):
    resource_version: str
    annotations: dict[str, str] | None = None


class _BookmarkObject(msgspec.Struct):
    metadata: _BookmarkMetadata


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float | None = None


class StatusAnswer(msgspec.Struct):
    """A Status object of the API: why a request failed."""

    message: str | None = None
    reason: str | None = None
    code: int | None = None
    details: _Details | None = None


UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""Everything that decoding a hostile text can raise."""


def read_object(raw: bytes, resource: ApiResource) -> ApiObject | Unusable:
    """Return the object of a JSON text, or why it is unusable; never raise for its content."""
    if len(raw) > OBJECT_BYTES_MAX:
        return Unusable(f"is {len(raw)} bytes long; at most {OBJECT_BYTES_MAX} are read")
    try:
        metadata = msgspec.json.decode(raw, type=_Object).metadata
        document = msgspec.json.decode(raw, type=dict[str, Any])
        own: dict[str, Any] = document["metadata"]
        own.pop("managedFields", None)
        own.pop("annotations", None)  # up to 256 KiB an object, of which nothing is used
        own.pop("resourceVersion")
        status = document.pop("status", None)
        document["apiVersion"], document["kind"] = resource.api_version, resource.kind
        if resource.versions_only:
            document = {"resourceVersion": metadata.resource_version}
            status = None
        encoded = msgspec.json.encode(document, order="deterministic")
        encoded_status = b"" if status is None else _sorted(status)
    except UNREADABLE as error:
        return Unusable(f"cannot be read: {_shown(error)}", _key_of(raw))
    key = (metadata.namespace, metadata.name)
    if not metadata.name or not metadata.uid or not metadata.resource_version:
        return Unusable("has no name, no uid or no resourceVersion", key if any(key) else None)
    if bool(metadata.namespace) is not resource.namespaced:
        has = "a namespace" if metadata.namespace else "no namespace"
        return Unusable(f"has {has}, unlike its kind {resource.kind}", key)
    return ApiObject(
        metadata.namespace,
        metadata.name,
        metadata.uid,
        metadata.resource_version,
        metadata.generation,
        encoded,
        encoded_status,
        own.get("deletionTimestamp") is not None,
        _texts(own.get("finalizers")),
    )


def _texts(found: object) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list) else ()


def read_page(body: bytes) -> ListPage:
    """Return the page of a list answer. Raises MalformedAnswerError."""
    try:
        page = msgspec.json.decode(body, type=_List)
    except UNREADABLE as error:
        raise MalformedAnswerError(f"a list cannot be read: {_shown(error)}") from error
    metadata = page.metadata
    if not metadata.resource_version and not metadata.continue_:
        raise MalformedAnswerError("a list has neither a resourceVersion nor a continue token")
    items = tuple(bytes(item) for item in page.items or ())
    return ListPage(items, metadata.resource_version, metadata.continue_)


def read_status(body: bytes) -> StatusAnswer:
    """Return a Status object, an empty one if the body is none."""
    try:
        return msgspec.json.decode(body, type=StatusAnswer)
    except UNREADABLE:
        return StatusAnswer()


class WatchDecoder:
    """Split the body of a watch into events. Holds at most one unfinished line.

    After a line that is too long the rest of it is skipped, whatever its length.
    """

    def __init__(self, resource: ApiResource, *, line_bytes_max: int = OBJECT_BYTES_MAX) -> None:
        self._resource = resource
        self._line_bytes_max = line_bytes_max
        self._parts: list[bytes] = []
        self._held = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[WatchEvent]:
        """Yield the events that this part of the body completes."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            piece = chunk[start:end]
            start = end + 1
            if self._skipping:
                self._skipping = False
                continue
            line = b"".join((*self._parts, piece)) if self._parts else piece
            self._parts, self._held = [], 0
            if len(line) > self._line_bytes_max:
                yield self._too_long(line)
            elif line.strip():
                yield self._event(line)
        rest = chunk[start:]
        if not rest or self._skipping:
            return
        self._parts.append(rest)
        self._held += len(rest)
        if self._held > self._line_bytes_max:
            yield self._too_long(b"".join(self._parts))
            self._parts, self._held, self._skipping = [], 0, True

    @property
    def unfinished(self) -> bool:
        """True if the body has ended within an event."""
        return bool(self._parts) or self._skipping

    def _too_long(self, line: bytes) -> Unusable:
        """Report a long line. Its type comes first; a deletion must not be lost."""
        head = line[:64].replace(b" ", b"")
        harmless = head.startswith((b'{"type":"ADDED"', b'{"type":"MODIFIED"'))
        why = f"an event is longer than {self._line_bytes_max} bytes and was skipped"
        return Unusable(why, relist=not harmless)

    def _event(self, line: bytes) -> WatchEvent:
        try:
            event = msgspec.json.decode(line, type=_Event)
            raw = bytes(event.object)
            if event.type == "BOOKMARK":
                metadata = msgspec.json.decode(raw, type=_BookmarkObject).metadata
                initial_end = (metadata.annotations or {}).get(INITIAL_EVENTS_END) == "true"
                return Bookmark(metadata.resource_version, initial_end)
        except UNREADABLE as error:
            return Unusable(f"an event cannot be read: {_shown(error)}", relist=True)
        if event.type == "ERROR":
            return status_error(read_status(raw))
        for verb in _VERBS:
            if verb == event.type:
                found = read_object(raw, self._resource)
                if isinstance(found, Unusable):
                    deletes = verb == "DELETED"
                    return Unusable(found.why, found.key, relist=deletes)
                return ObjectEvent(verb, found)
        return Unusable(f"an event has the unknown type {_safe(event.type)}")

    def __repr__(self) -> str:
        return f"<WatchDecoder {self._resource.plural}, {self._held} bytes held>"


def status_error(
    status: StatusAnswer, *, http_status: int = 0, retry_after_s: float | None = None
) -> AnswerError:
    """Return the error that a Status object describes.

    ``http_status`` counts if there is one, ``retry_after_s`` if the object names none.
    """
    code = http_status or status.code or 500
    message = _safe(status.message or "") or "no message"
    if retry_after_s is None and status.details is not None:
        retry_after_s = status.details.retry_after_seconds
    return answer_error(
        f"{code} {_safe(status.reason or '')}: {message}".replace(" :", ":"),
        status=code,
        reason=_safe(status.reason or ""),
        retry_after_s=retry_after_s,
    )


def _sorted(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def _key_of(raw: bytes) -> ObjectKey | None:
    """Return namespace and name of an object that is otherwise unreadable."""
    try:
        metadata = msgspec.json.decode(raw, type=_Named).metadata
    except UNREADABLE:
        return None
    return metadata.namespace, metadata.name


def _shown(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "is not UTF-8 text"  # the error itself holds the bytes
    return "nested too deeply" if isinstance(error, RecursionError) else _safe(str(error))


def _safe(text: str) -> str:
    """Return the beginning of a server's text, for a message that a terminal may show."""
    return escaped(clipped(text, SHOWN_CHARS_MAX))
