"""Builds plain values from the YAML parser's events, within limits.

The rules are those of :mod:`relay.config.yaml.document`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import yaml

from relay.config.yaml.parser_errors import explained
from relay.config.yaml.source_positions import (
    Step,
    Where,
    is_public,
    may_show,
    name_end,
    packed,
    shown,
    unpacked,
)

if TYPE_CHECKING:
    from relay.config.yaml.document import Document

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml: the same events, ten times slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

DEPTH_MAX = 64
VALUES_MAX = 1_000_000  # per document, each use of an alias counted in full
FAULTS_MAX = 100  # per document

# A bracket; or what brackets have no meaning in: quoted text and comments.
_BRACKET = re.compile(
    r"""[\[\]{}]|"(?:[^"\\]|\\.)*(?:"|\Z)|'[^']*(?:'|\Z)|(?:^|(?<=\s))#[^\n]*""", re.MULTILINE
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,4})?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
_STR_TAG = "tag:yaml.org,2002:str"
_CONTAINER_TAGS = {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
# The tag is not repeated: it may be a secret that happens to begin with "!".
_TAG_MESSAGE = "YAML tags are not accepted; quote a value that begins with !"
_DEPTH_MESSAGE = f"nested deeper than {DEPTH_MAX} levels"
_MERGE = "<<"
_MERGE_MESSAGE = (
    "merge keys are not accepted (YAML 1.2 has none): write the fields out, or give the whole "
    "value by an alias, as in batch: *shared"
)


def _brackets_open(text: str) -> int:
    """Return the depth of brackets and braces at the end of a YAML text."""
    depth = 0
    for token in _BRACKET.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
    return depth


class UnreadableError(Exception):
    """The document as a whole cannot be read.

    ``offset`` is the place in its text; ``trusted``: everything below the place's parents may be
    shown.
    """

    def __init__(self, message: str, offset: int, *, trusted: bool) -> None:
        self.offset = offset
        self.trusted = trusted
        super().__init__(message)


class _Node(msgspec.Struct, frozen=True):
    """A finished value, how many values it holds (aliases followed), and how deep it nests."""

    value: object
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class _Frame:
    """A container that is still being read; ``key`` is the mapping key that waits for its value.

    ``merged`` are the mappings of its merge keys; ``public``: values may be shown.
    """

    container: dict[str, object] | list[object]
    where: Where
    marks: dict[Step, int]
    anchor: str | None
    start: int
    public: bool
    key: str | None = None
    key_at: int = 0
    merging: bool = False
    size: int = 1
    height: int = 1
    merged: list[object] = field(default_factory=list)


class Builder:
    """Puts one document's events together to plain values, counting as it goes."""

    __slots__ = ("_anchors", "_document", "_frames", "_offset", "_root")

    def __init__(self, document: Document) -> None:
        self._document = document
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Node] = {}
        self._offset = 0
        self._root: _Node | None = None

    def build(self, chunk: str) -> object:
        """Return the document's value; raise :class:`UnreadableError`."""
        if control := _CONTROL.search(chunk):
            self._offset = control.start()
            raise self._unreadable(f"not valid YAML: control character {control[0]!a}")
        try:
            for event in yaml.parse(chunk, Loader=_Loader):
                assert event.start_mark is not None, "the parser marks every event"
                assert event.end_mark is not None, "the parser marks every event"
                self._offset = event.start_mark.index
                self._take(event, event.end_mark.index)
        except yaml.MarkedYAMLError as error:
            fault = explained(chunk, error)
            self._offset = fault.offset
            # The parser reads ahead of its events, and newer ones have a limit of their own.
            if _brackets_open(chunk[: fault.read]) > DEPTH_MAX:
                raise self._unreadable(_DEPTH_MESSAGE) from error
            raise self._unreadable(f"not valid YAML: {fault.message}") from error
        except yaml.YAMLError as error:
            raise self._unreadable(f"not valid YAML: {str(error).splitlines()[0]}") from error
        return self._root.value if self._root else None

    def _unreadable(self, message: str) -> UnreadableError:
        trusted = all(frame.public for frame in self._frames)
        return UnreadableError(message, self._offset, trusted=trusted)

    def _take(self, event: yaml.Event, end: int) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event, end)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._close(end)
        elif isinstance(event, yaml.AliasEvent):
            self._take_alias(event, end)
        elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
            # Only where a line break other than "\n" hid the marker from the split.
            raise self._unreadable("a second document begins here")

    def _take_scalar(self, event: yaml.ScalarEvent, end: int) -> None:
        if event.tag not in (None, "!", _STR_TAG):
            raise self._unreadable(_TAG_MESSAGE)
        is_plain = event.tag is None and event.implicit[0]
        value = _resolve(event.value) if is_plain else event.value
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            is_merge = is_plain and event.value == _MERGE
            name = name_end(event.value, frame.where[-1] if frame.where else "")
            if name < len(event.value):
                self._document.text.mask(min(self._offset + name, end), end)
            self._take_key(frame, event.value, is_string=isinstance(value, str), merges=is_merge)
            if event.anchor:
                self._anchors[event.anchor] = _Node(value)
            return
        self._begin_value()
        if frame is None or not frame.public or not may_show(_field(frame), event.value):
            self._document.text.mask(self._offset, end)
        self._add(_Node(value), event.anchor, self._offset, end)

    def _take_key(self, frame: _Frame, key: str, *, is_string: bool, merges: bool) -> None:
        frame.key = key
        frame.key_at = self._offset
        frame.merging = merges
        where = (*frame.where, key)
        if merges:
            first = not frame.merged and key not in frame.marks
            frame.marks.setdefault(key, packed(self._offset, self._offset, self._offset))
            if first:
                self._fault(where, _MERGE_MESSAGE)
            return
        if key in frame.marks:
            line = self._document.text.line
            first_line = line(unpacked(frame.marks[key])[0])
            again = f"appears again on line {line(self._offset)}"
            self._fault(where, f"{again}; the first is on line {first_line}")
            return
        frame.marks[key] = packed(self._offset, self._offset, self._offset)
        if not is_string:
            self._fault(where, f"is not a string; write the key as '{shown(key)[1:-1]}' in quotes")

    def _take_alias(self, event: yaml.AliasEvent, end: int) -> None:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            # The name is not repeated: it may be a secret that happens to begin with "*".
            raise self._unreadable("an alias without an anchor; quote a value that begins with *")
        self._begin_value()
        self._add(node, None, self._offset, end)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if event.tag not in _CONTAINER_TAGS:
            raise self._unreadable(_TAG_MESSAGE)
        if len(self._frames) == DEPTH_MAX:
            raise self._unreadable(_DEPTH_MESSAGE)
        where = self._begin_value()
        container: dict[str, object] | list[object] = (
            {} if isinstance(event, yaml.MappingStartEvent) else []
        )
        parent = self._frames[-1] if self._frames else None
        public = parent is None or (parent.public and is_public(_field(parent)))
        marks = self._document.marks_of(container)
        frame = _Frame(container, where, marks, event.anchor, self._offset, public)
        self._frames.append(frame)

    def _close(self, end: int) -> None:
        frame = self._frames.pop()
        if isinstance(frame.container, dict):
            for value in frame.merged:
                if isinstance(value, dict):
                    for key, member in value.items():
                        frame.container.setdefault(key, member)
                        frame.marks.setdefault(key, frame.marks[_MERGE])
        node = _Node(frame.container, frame.size, frame.height)
        self._add(node, frame.anchor, frame.start, end)

    def _begin_value(self) -> Where:
        """Return where the value that begins now will stand; refuse it as a mapping's key."""
        if not self._frames:
            self._document.begin(self._offset)
            return ()
        frame = self._frames[-1]
        if isinstance(frame.container, list):
            return (*frame.where, len(frame.container))
        if frame.key is None:
            raise self._unreadable("the key of a mapping must be a plain string")
        return (*frame.where, frame.key)

    def _add(self, node: _Node, anchor: str | None, start: int, end: int) -> None:
        if anchor:
            self._anchors[anchor] = node
        if not self._frames:
            self._root = node
            return
        frame = self._frames[-1]
        frame.size += node.size
        frame.height = max(frame.height, node.height + 1)
        if frame.size > VALUES_MAX:
            raise self._unreadable(f"holds more than {VALUES_MAX} values, aliases counted in full")
        if len(self._frames) + node.height > DEPTH_MAX:
            raise self._unreadable(_DEPTH_MESSAGE)
        if isinstance(frame.container, list):
            frame.marks[len(frame.container)] = packed(start, start, end)
            frame.container.append(node.value)
            return
        assert frame.key is not None, "_begin_value refuses values without a key"
        if frame.merging:
            frame.merged += node.value if isinstance(node.value, list) else [node.value]
        elif frame.key not in frame.container:
            frame.marks[frame.key] = packed(frame.key_at, start, end)
            frame.container[frame.key] = node.value
        frame.key = None

    def _fault(self, where: Where, message: str) -> None:
        if len(self._document.faults) < FAULTS_MAX:
            self._document.faults = (*self._document.faults, (where, message))


def _field(frame: _Frame) -> str:
    """Return the field that a value belongs to; for an entry of a list, that of the list."""
    if frame.key is not None:
        return frame.key
    return next((step for step in reversed(frame.where) if isinstance(step, str)), "")


def _resolve(plain: str) -> object:
    """Return a plain scalar's value by the rules of :mod:`relay.config.yaml.document`."""
    if plain in _WORDS:
        return _WORDS[plain]
    if _INTEGER.fullmatch(plain) and not _LEADING_ZERO.match(plain):
        return int(plain)
    if _FLOAT.fullmatch(plain) and not _LEADING_ZERO.match(plain):
        return float(plain)
    return plain
