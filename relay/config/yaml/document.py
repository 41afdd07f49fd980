"""Reads YAML text as plain values, safely, with the line of every value.

Rules:

* Nothing in a file can crash us, run code, or cost more memory than its size warrants: bytes,
  nesting and values (aliases counted as often as they are used) are bounded while reading. Values
  are built from the parser's *events*, because PyYAML's composer recurses in C and overflows the
  stack on thirty kilobytes of ``[``.
* A broken document never hides its neighbours. The text is split at document markers first; a
  marker at the start of a line ends a document even inside a quoted or block scalar (YAML 1.2.2
  §9.1.2, ``c-forbidden``), so the split is exact.
* Plain scalars resolve by YAML 1.2's core schema (§10.3.2) in decimal only: ``no``, ``on``,
  ``012``, ``1:30`` and dates stay text. Tags other than ``!!str`` are not accepted, nor are merge
  keys, which are followed all the same, so that what they bring in is not missed.
* Keys are strings, and unique (YAML 1.2.2 §3.2.1.3); each exception is a fault.
* Faults name fields, never values: the value may be a secret.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from relay.config.yaml.parser_errors import is_indented_by_tab, repaired
from relay.config.yaml.source_positions import (
    PackedPlaces,
    SourcePlace,
    SourceText,
    Step,
    TextMark,
    Where,
    dotted,
    shown,
    unpacked,
)
from relay.config.yaml.values import FAULTS_MAX, VALUES_MAX, Builder, UnreadableError
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import yield_to_loop

__all__ = [
    "FAULTS_MAX",
    "VALUES_MAX",
    "Document",
    "Step",
    "Where",
    "dotted",
    "parse_documents",
    "read_bounded",
    "read_documents",
    "shown",
]

FILE_BYTES_MAX = 32 * 1024 * 1024  # some twenty thousand Exporters of the proposal's size
REPAIRS_MAX = 20  # per document

_MARKER = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
# Something other than blanks, comments and directives; or than those and one marker.
_CONTENT = re.compile(r"^(?:[ \t\r]+[^ \t\r\n#]|[^ \t\r\n#%])", re.MULTILINE)
_CONTENT_AFTER_MARKER = re.compile(r"^(?:---[ \t\r]+|(?!---)[ \t\r]*)[^ \t\r\n#]", re.MULTILINE)


_NO_MARKS: Final[dict[int, dict[Step, int]]] = {}
"""Shared by all documents that have none any more: never changed."""
_NO_PLACES: Final = PackedPlaces()
_NO_LINES: Final[frozenset[int]] = frozenset()
_NO_NUMBERS: Final[Mapping[Where, int]] = {}
_SHARED_NUMBERS_MAX: Final = 64
_SHARED_PLACES_MAX: Final = 64
"""Tables of places that documents share, and the most places of one."""


class Document:
    """One document: its plain value, its YAML faults, and where things stand.

    ``value`` is None for a document that could not be read, or holds nothing. ``faults`` are
    (place, message) pairs, because only the reader of the value knows how to name its subject.
    """

    __slots__ = (
        "_has_text",
        "_kept",
        "_marks",
        "_number",
        "_numbers",
        "_root",
        "faults",
        "file",
        "repaired",
        "text",
        "value",
    )

    def __init__(self, file: str, *, number: int = 0, line_first: int = 1, text: str = "") -> None:
        self.file = file
        self.text = SourceText(text, line_first)
        self.value: object = None
        self.faults: Sequence[tuple[Where, str]] = ()
        self.repaired = _NO_LINES
        """Lines that were taken out to read the others: what is missing there is no news."""
        self._number = number
        self._has_text = True
        self._root = 0
        # Marks of each member, by identity of its container, which `value` keeps alive.
        self._marks = _NO_MARKS
        # Places that are still known when the value is not, and their numbers.
        self._kept = _NO_PLACES
        self._numbers: Mapping[Where, int] = _NO_NUMBERS

    @classmethod
    def of_value(cls, value: object, origin: str) -> Document:
        """Return a document of an object that was not read from a text: no place has a line."""
        document = cls(origin)
        document.value = value
        document._has_text = False
        return document

    def __repr__(self) -> str:
        return f"<Document {self.origin()}: {len(self.faults)} faults>"

    def origin(self, where: Where = (), subject: str = "") -> str:
        """Return ``file:line``, the document's number (where there are several) and the subject.

        Without a text: ``origin: subject``.
        """
        return self._origin(str(self.line(where)), subject)

    def _origin(self, place: str, subject: str) -> str:
        if not self._has_text:
            return f"{self.file}: {subject}" if subject else self.file
        number = f"document {self._number}" if self._number else ""
        about = ", ".join(text for text in (number, subject) if text)
        return f"{self.file}:{place}" + (f" ({about})" if about else "")

    def fault(
        self,
        where: Where,
        message: str,
        *,
        subject: str = "",
        on_key: bool = False,
        offset: int | None = None,
    ) -> Fault:
        """Return a fault at :meth:`place`, with its line."""
        place = self.place(where, on_key=on_key, offset=offset)
        return Fault(
            dotted(where),
            message,
            self._origin(f"{place.line}:{place.column}", subject),
            excerpt=place.excerpt,
            place=(place.line, place.column),
            file=self.file,
        )

    def line(self, where: Where) -> int:
        """Return the line, from 1, of the deepest part of ``where`` that exists."""
        return self.place(where).line

    def place(
        self, where: Where, *, on_key: bool = False, offset: int | None = None
    ) -> SourcePlace:
        """Return the place of the deepest part of ``where`` that exists.

        That is where a value that is a scalar begins, and the key of anything else. ``on_key``
        always means the key, ``offset`` a character of a value that is a text.
        """
        if not self._has_text:
            return _NOWHERE
        if isinstance(where, TextMark):
            return self.text.place(where.offset)
        if where in self._numbers:
            return self._kept[self._numbers[where]]
        value: object = self.value
        key = start = self._root
        for step in where:
            mark = self._marks.get(id(value), {}).get(step)
            if mark is None:
                return self.text.place(key)
            key, start, end = unpacked(mark)
            value = _member(value, step)
        if on_key or not where or value is None or isinstance(value, dict | list):
            return self.text.place(key)
        if offset is not None and isinstance(value, str):
            inside = self.text.inside(start, end, value, offset)
            if inside is not None:
                return self.text.place(inside)
        return self.text.place(start)

    def is_repaired(self, where: Where) -> bool:
        """Tell whether a place is in a line that was taken out."""
        return bool(self.repaired) and self.line(where) in self.repaired

    def written(self, where: Where) -> str:
        """Return the text of a value as written, "" where there is none."""
        value: object = self.value
        start = end = 0
        for step in where:
            mark = self._marks.get(id(value), {}).get(step)
            if mark is None:
                return ""
            _, start, end = unpacked(mark)
            value = _member(value, step)
        return self.text.between(start, end)

    def let_go(self, wheres: Iterable[Where]) -> None:
        """Keep nothing but these places: the value is many times as large."""
        numbers = _numbered(tuple(dict.fromkeys(wheres)))
        kept = PackedPlaces(map(self.place, numbers))
        self.value = None
        self.faults = ()
        self._marks = _NO_MARKS
        self.text = SourceText("", self.text.line(0))
        self._kept = kept
        self._numbers = numbers

    def begin(self, offset: int) -> None:
        """Note where the value begins."""
        self._root = offset

    def marks_of(self, container: object) -> dict[Step, int]:
        """Return the table into which the reader of a new container puts its members' marks."""
        marks: dict[Step, int] = {}
        if self._marks is _NO_MARKS:
            self._marks = {}
        self._marks[id(container)] = marks
        return marks


_NOWHERE = SourcePlace(0, 0)


def _numbered(wheres: tuple[Where, ...]) -> Mapping[Where, int]:
    """Return the numbers of places: the same table for documents with the same few places."""
    shared = len(wheres) <= _SHARED_PLACES_MAX
    return _shared_numbers(wheres) if shared else _numbers_of(wheres)


def _numbers_of(wheres: tuple[Where, ...]) -> Mapping[Where, int]:
    return {where: number for number, where in enumerate(wheres)}


_shared_numbers = lru_cache(maxsize=_SHARED_NUMBERS_MAX)(_numbers_of)


def _member(container: object, step: Step) -> object:
    if isinstance(container, dict):
        return container.get(step)
    return container[step] if isinstance(container, list) and isinstance(step, int) else None


def read_bounded(path: Path, *, bytes_max: int) -> bytes:
    """Return a regular file's content; raise OSError for others and for larger ones, too."""
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
    """Return the documents of a file; raise :class:`ConfigError` where it is no UTF-8 text."""
    yield_to_loop()
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
    """Return the documents of a text that hold anything; never raise for its content.

    A line that is no valid YAML is taken out to find what is wrong with the others: a document
    that is ``repaired`` must not be used for anything else.
    """
    chunks = list(_split(text))
    documents: list[Document] = []
    for number, (line_first, chunk) in enumerate(chunks, 1):
        document = _read(chunk, file, number if len(chunks) > 1 else 0, line_first)
        if document.value is not None or document.faults:
            documents.append(document)
    return documents


def _read(chunk: str, file: str, number: int, line_first: int) -> Document:
    faults: list[tuple[Where, str]] = []
    broken: list[tuple[int, bool]] = []
    text: str | None = chunk
    while text is not None:
        document = Document(file, number=number, line_first=line_first, text=chunk)
        try:
            document.value = Builder(document).build(text)
        except UnreadableError as error:
            line = document.text.line(error.offset)
            if broken and (
                line <= document.text.line(broken[-1][0])
                or is_indented_by_tab(chunk, broken[-1][0])
            ):
                break  # the same fault once more, or one that comes of it
            faults.append((TextMark.at(error.offset), str(error)))
            broken.append((error.offset, error.trusted))
            text = repaired(text, error.offset) if len(broken) < REPAIRS_MAX else None
        else:
            break
    for offset, trusted in broken:
        document.text.mask_line(offset, trusted=trusted)
    document.faults = (*faults, *document.faults)
    if broken:
        document.repaired = frozenset(document.text.line(offset) for offset, _ in broken)
    return document


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield chunks that hold one document each, with the number of their first line, from 1."""
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
