"""From YAML text to plain values, safely, with the line of everything.

Rules:

* Nothing in a file can crash us, run code, or cost more memory than its size warrants: bytes,
  nesting and values (aliases counted as often as they are used) are bounded while reading. Values
  are built from the parser's *events*, because PyYAML's composer recurses in C and overflows the
  stack on thirty kilobytes of ``[``.
* A broken document never hides its neighbours. The text is split at document markers first; a
  marker at the start of a line ends a document even inside a quoted or block scalar (YAML 1.2.2
  §9.1.2, ``c-forbidden``), so the split is exact.
* Plain scalars resolve by YAML 1.2's core schema (§10.3.2) in decimal only: ``no``, ``on``,
  ``012``, ``1:30`` and dates stay text. Merge keys and tags other than ``!!str`` are not accepted.
* Keys are strings, and unique (YAML 1.2.2 §3.2.1.3); each exception is a fault.
* Faults name fields, never values: the value may be a secret.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from relay.errors import ConfigError, Fault
from relay.loop import give_way

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml: the same events, ten times slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

Step: TypeAlias = str | int
Where: TypeAlias = tuple[Step, ...]

FILE_BYTES_MAX = 32 * 1024 * 1024  # some twenty thousand Exporters of the proposal's size
DEPTH_MAX = 64
VALUES_MAX = 1_000_000  # per document, each use of an alias counted in full
FAULTS_MAX = 100  # per document

_MARKER = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
# Something other than blanks, comments and directives; or than those and one marker.
_CONTENT = re.compile(r"^(?:[ \t\r]+[^ \t\r\n#]|[^ \t\r\n#%])", re.MULTILINE)
_CONTENT_AFTER_MARKER = re.compile(r"^(?:---[ \t\r]+|(?!---)[ \t\r]*)[^ \t\r\n#]", re.MULTILINE)
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
_FIELD_STEP = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SHOWN_CHARS_MAX = 60

_STR_TAG = "tag:yaml.org,2002:str"
_CONTAINER_TAGS = {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
# The tag is not repeated: it may be a secret that happens to begin with "!".
_TAG_MESSAGE = "YAML tags are not accepted; quote a value that begins with !"
_DEPTH_MESSAGE = f"nested deeper than {DEPTH_MAX} levels"


def _brackets_open(text: str) -> int:
    """Return how deep the end of a YAML text is in brackets and braces."""
    depth = 0
    for token in _BRACKET.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
    return depth


class Document:
    """One YAML document: its plain value, its YAML faults, and where things stand.

    ``value`` is None for a document that could not be read, or holds nothing. ``faults`` are
    (place, message) pairs, because only the reader of the value knows how to name its subject.
    """

    __slots__ = ("_kept", "_lines", "_number", "faults", "file", "line_first", "value")

    def __init__(self, file: str, *, number: int = 0, line_first: int = 1) -> None:
        self.file = file
        self.line_first = line_first
        self.value: object = None
        self.faults: list[tuple[Where, str]] = []
        self._number = number
        # Line of each member, by identity of its container, which `value` keeps alive.
        self._lines: dict[int, dict[Step, int]] = {}
        # Lines that are still known when the value is not.
        self._kept: dict[Where, int] = {}

    def __repr__(self) -> str:
        return f"<Document {self.origin()}: {len(self.faults)} faults>"

    def origin(self, where: Where = (), subject: str = "") -> str:
        """``file:line``, then the document's number (where there are several) and the subject."""
        number = f"document {self._number}" if self._number else ""
        about = ", ".join(text for text in (number, subject) if text)
        return f"{self.file}:{self.line(where)}" + (f" ({about})" if about else "")

    def line(self, where: Where) -> int:
        """The line, from 1, of the deepest part of ``where`` that exists."""
        if where in self._kept:
            return self._kept[where]
        line = self.line_first
        value = self.value
        for step in where:
            lines = self._lines.get(id(value), {})
            if step not in lines:
                break
            line = lines[step]
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int):
                value = value[step]
        return line

    def let_go(self, wheres: Iterable[Where]) -> None:
        """Keep nothing but the lines of these places: the value is many times as large."""
        kept = {where: self.line(where) for where in wheres}
        self.value = None
        self.faults = []
        self._lines = {}
        self._kept = kept

    def lines_of(self, container: object) -> dict[Step, int]:
        """Where a new container's reader is to write down the line of each member."""
        lines: dict[Step, int] = {}
        self._lines[id(container)] = lines
        return lines


def shown(text: str) -> str:
    """A quoted, escaped and shortened text for a message."""
    cut = text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 1] + "…"
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut) + '"'


def dotted(where: Where) -> str:
    """A place as its author would say it: ``spec.sinks[0].otlp_http.headers["X.Y"]``."""
    text = ""
    for step in where:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _FIELD_STEP.fullmatch(step) and len(step) <= _SHOWN_CHARS_MAX:
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text


def read_bounded(path: Path, *, bytes_max: int) -> bytes:
    """A regular file's content. Raises OSError, also for other kinds of file and larger ones."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise OSError(errno.EFBIG, f"larger than {bytes_max} bytes")
    return content


def _open_without_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for its writer.
    return os.open(path, flags | os.O_NONBLOCK)


def read_documents(path: Path, *, bytes_max: int = FILE_BYTES_MAX) -> list[Document]:
    """The documents of a file; raises :class:`ConfigError` where it is not readable as UTF-8."""
    give_way()
    try:
        text = read_bounded(path, bytes_max=bytes_max).decode("utf-8-sig")
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
        raise ConfigError([Fault("", message, str(path))]) from error
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text: byte {error.start} does not belong"
        raise ConfigError([Fault("", message, str(path))]) from error
    return parse_documents(text, str(path))


def parse_documents(text: str, file: str) -> list[Document]:
    """The documents of a text, without those that hold nothing; never raises for its content."""
    chunks = list(_split(text))
    documents: list[Document] = []
    for number, (line_first, chunk) in enumerate(chunks, 1):
        document = Document(file, number=number if len(chunks) > 1 else 0, line_first=line_first)
        try:
            document.value = _Builder(document).build(chunk)
        except _UnreadableError as error:
            document.line_first = error.line
            document.faults = [((), str(error))]
        if document.value is not None or document.faults:
            documents.append(document)
    return documents


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Chunks that hold one document each, with the number of their first line, from 1."""
    start, line, begun = 0, 1, False  # begun: the chunk opens with its own "---"
    for marker in _MARKER.finditer(text):
        chunk = text[start : marker.start()]
        ends = marker[0] == "..."
        if not (begun or ends) and not _CONTENT.search(chunk):
            begun = True  # comments and directives belong to the document that now begins
            continue
        if (_CONTENT_AFTER_MARKER if begun else _CONTENT).search(chunk):
            yield line, chunk
        resume = marker.end() if ends else marker.start()
        line += text.count("\n", start, resume)
        start, begun = resume, not ends
    chunk = text[start:]
    if (_CONTENT_AFTER_MARKER if begun else _CONTENT).search(chunk):
        yield line, chunk


class _UnreadableError(Exception):
    """The document as a whole cannot be read. ``line`` counts from 1 in the file."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _Node:
    """A finished value, how many values it holds (aliases followed), and how deep it nests."""

    value: object
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class _Frame:
    """A container that is still being read. ``key`` is the mapping key that waits for its value."""

    container: dict[str, object] | list[object]
    where: Where
    lines: dict[Step, int]
    anchor: str | None
    key: str | None = None
    size: int = 1
    height: int = 1


class _Builder:
    """Puts one document's events together to plain values, counting as it goes."""

    __slots__ = ("_anchors", "_document", "_frames", "_line", "_root")

    def __init__(self, document: Document) -> None:
        self._document = document
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Node] = {}
        self._line = document.line_first
        self._root: _Node | None = None

    def build(self, chunk: str) -> object:
        """The document's value; raises :class:`_UnreadableError`."""
        line_first = self._line
        if control := _CONTROL.search(chunk):
            self._line += chunk.count("\n", 0, control.start())
            raise self._unreadable(f"not valid YAML: control character {control[0]!a}")
        try:
            for event in yaml.parse(chunk, Loader=_Loader):
                assert event.start_mark is not None, "the parser marks every event"
                self._line = line_first + event.start_mark.line
                self._take(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if mark is not None:
                self._line = line_first + mark.line
            # The parser reads ahead of its events, and newer ones have a limit of their own.
            if _brackets_open(chunk[: mark.index] if mark is not None else chunk) > DEPTH_MAX:
                raise self._unreadable(_DEPTH_MESSAGE) from error
            # Both texts are fixed phrases of the parser, never the author's content.
            problem = ", ".join(part for part in (error.context, error.problem) if part)
            raise self._unreadable(f"not valid YAML: {problem}") from error
        except yaml.YAMLError as error:
            raise self._unreadable(f"not valid YAML: {str(error).splitlines()[0]}") from error
        return self._root.value if self._root else None

    def _unreadable(self, message: str) -> _UnreadableError:
        return _UnreadableError(message, self._line)

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            frame = self._frames.pop()
            self._add(_Node(frame.container, frame.size, frame.height), frame.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._take_alias(event)
        elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
            # Only where a line break other than "\n" hid the marker from the split.
            raise self._unreadable("a second document begins here")

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        if event.tag not in (None, "!", _STR_TAG):
            raise self._unreadable(_TAG_MESSAGE)
        is_plain = event.tag is None and event.implicit[0]
        value = _resolve(event.value) if is_plain else event.value
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            self._take_key(frame, event.value, is_string=isinstance(value, str))
            if event.anchor:
                self._anchors[event.anchor] = _Node(value)
            return
        self._begin_value()
        self._add(_Node(value), event.anchor)

    def _take_key(self, frame: _Frame, key: str, *, is_string: bool) -> None:
        frame.key = key
        where = (*frame.where, key)
        if key in frame.container:
            first = frame.lines[key]
            self._fault(where, f"appears again on line {self._line}; the first is on line {first}")
            return
        frame.lines[key] = self._line
        if not is_string:
            self._fault(where, f"is not a string; write the key as '{shown(key)[1:-1]}' in quotes")

    def _take_alias(self, event: yaml.AliasEvent) -> None:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            # The name is not repeated: it may be a secret that happens to begin with "*".
            raise self._unreadable("an alias without an anchor; quote a value that begins with *")
        self._begin_value()
        self._add(node, None)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if event.tag not in _CONTAINER_TAGS:
            raise self._unreadable(_TAG_MESSAGE)
        if len(self._frames) == DEPTH_MAX:
            raise self._unreadable(_DEPTH_MESSAGE)
        where = self._begin_value()
        container: dict[str, object] | list[object] = (
            {} if isinstance(event, yaml.MappingStartEvent) else []
        )
        lines = self._document.lines_of(container)
        self._frames.append(_Frame(container, where, lines, event.anchor))

    def _begin_value(self) -> Where:
        """Where the value that begins now will stand; refuses it as the key of a mapping."""
        if not self._frames:
            self._document.line_first = self._line
            return ()
        frame = self._frames[-1]
        if isinstance(frame.container, list):
            index = len(frame.container)
            frame.lines[index] = self._line
            return (*frame.where, index)
        if frame.key is None:
            raise self._unreadable("the key of a mapping must be a plain string")
        return (*frame.where, frame.key)

    def _add(self, node: _Node, anchor: str | None) -> None:
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
            frame.container.append(node.value)
        else:
            assert frame.key is not None, "_begin_value refuses values without a key"
            frame.container.setdefault(frame.key, node.value)
            frame.key = None

    def _fault(self, where: Where, message: str) -> None:
        if len(self._document.faults) < FAULTS_MAX:
            self._document.faults.append((where, message))


def _resolve(plain: str) -> object:
    """A plain scalar's value by the rules at the top of this module."""
    if plain in _WORDS:
        return _WORDS[plain]
    if _INTEGER.fullmatch(plain) and not _LEADING_ZERO.match(plain):
        return int(plain)
    if _FLOAT.fullmatch(plain) and not _LEADING_ZERO.match(plain):
        return float(plain)
    return plain
