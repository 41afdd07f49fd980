"""Places in a YAML text, and the line to show for each.

Rules:

* Lines end with ``\\n`` alone, as editors and grep count them; columns count characters from 1.
* A shown line never holds a secret: the value of every field that is not on the list of those that
  cannot hold one is masked, and so is everything below a field that is not on it.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from relay.config.yaml.scalar_positions import source_offset
from relay.runtime import excerpt

Step: TypeAlias = str | int
Where: TypeAlias = tuple[Step, ...]

MASK: Final = "…"
WINDOW_CHARS: Final = 300
"""Characters of a line that are examined on either side of a place."""
SCALAR_CHARS_MAX: Final = 256 * 1024
"""Maximum length of scalars in which places are computed; a selector has at most 16 KiB."""
_STRUCTURE: Final = frozenset(
    [
        "metadata",
        "spec",
        "sources",
        "sinks",
        "metrics",
        "otlp_http",
        "prometheusRemoteWrite",
        "target",
        "openTelemetry",
        "basicAuth",
        "basic",
        "bearer",
        "bearerToken",
        "logs",
        "traces",
        "authentication",
        "secretRef",
        "batch",
        "retry",
        "queue",
        "tls",
        "caSecretRef",
        "certificateSecretRef",
        "resourceSelectors",
        "namespaceSelector",
        "labelSelectors",
        "kinds",
        "matchLabels",
        "matchExpressions",
        "exporters",
        "ingest",
        "admin",
        "storage",
        "inventory",
        "manifests",
        "tenancy",
        "limits",
        "log",
        "shutdown",
        "watch",
        "memory",
        "translation",
        "items",
    ]
)
_PUBLIC: Final = _STRUCTURE | frozenset(
    [
        "apiVersion",
        "kind",
        "name",
        "namespace",
        "metricsql",
        "selector",
        "categories",
        "minSeverity",
        "sampleRatio",
        "keep",
        "redact",
        "attribute",
        "action",
        "type",
        "key",
        "header",
        "operator",
        "values",
        "apiGroups",
        "resources",
        "group",
        "plural",
        "marks",
        "metricPrefix",
        "nameLabel",
        "namespaceLabel",
        "uidLabel",
        "profile",
        "compression",
        "temporality",
        "timeout",
        "concurrency",
        "maxRequestBytes",
        "promoteLabels",
        "protocolVersion",
        "enabled",
        "maxSize",
        "maxAttempts",
        "backoff",
        "backoffDuration",
        "group",
        "categories",
        "maxAge",
        "maxBytes",
        "overflow",
        "drain",
        "serverName",
        "insecureSkipVerify",
        "path",
        "project",
        "listen",
        "maxSeries",
        "level",
        "format",
        "label",
        "accounts",
        "interval",
        "<<",
    ]
)
"""Fields whose values may be shown. Endpoints are not among them: they may hold a password."""
_PUBLIC_FOLDED: Final = frozenset(field.replace("_", "").lower() for field in _PUBLIC) | {
    "source",
    "sink",
    "metric",
    "labelselector",
    "resourceselector",
}
_NAMES: Final = frozenset(["sources", "kinds"])
"""Structure that may also be a list of names."""
_ENDPOINT: Final = "endpoint"
_PLAIN_ENDPOINT: Final = re.compile(
    r"(?:[A-Za-z]{1,10}://)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[\w.~/-]*)?",
    re.ASCII,
)

# Anything that may be a field in a line, and the beginning of a line as far as it is no value.
_FIELD: Final = re.compile(r"""(?:^|[\s{,])["']?([A-Za-z_][-\w.]*)["']?[ \t]*(?=:(?:\s|$))""")
_BARE: Final = re.compile(r"[ ]*(?:-[ ]+)*([A-Za-z_]\w*)\s*")
_DIVIDER: Final = re.compile(":")
_DIVIDER_OF_SECRET: Final = re.compile(r"""[:\s"'=]""")
_SECRET_DATA: Final = frozenset(["data", "stringData"])
_HEAD: Final = re.compile(
    r"""\s*(?:-[ \t]+)*(?:["']?[A-Za-z_][-\w.]*["']?[ \t]*:(?=\s|$)[ \t]*)?"""
)

_FIELD_STEP = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SHOWN_CHARS_MAX = 60

_BITS: Final = 28  # a file has at most 32 Mi characters
_MASK_BITS: Final = (1 << _BITS) - 1


def is_public(field: str) -> bool:
    """Return True if values in, or below, a field of this name may be shown."""
    return field in _PUBLIC or _folded(field) in _PUBLIC_FOLDED


def is_field(name: str) -> bool:
    """Tell whether this is the name of a known field, exactly."""
    return name in _PUBLIC


def may_show(field: str, value: str) -> bool:
    """Return True if a scalar of this field may be shown."""
    if field == _ENDPOINT:
        return bool(_PLAIN_ENDPOINT.fullmatch(value))
    if field not in _STRUCTURE or field in _NAMES:
        return is_public(field)
    # A text in the place of a structure is a field without its colon, or a blank behind that.
    return all(word == "-" or word in _PUBLIC for word in value.split())


def _folded(field: str) -> str:
    """Remove differences in spelling: a misspelt field of these is public, too."""
    return field.replace("_", "").replace("-", "").lower()


_PLACE: Final = struct.Struct("=IIII")
"""Line, column, offset in the shown line, and where that begins."""


def packed(key: int, start: int, end: int) -> int:
    """Pack the offsets of a member's key and of its value's start and end into a number."""
    return (key << 2 * _BITS) | (start << _BITS) | end


def unpacked(mark: int) -> tuple[int, int, int]:
    """Return the offsets that :func:`packed` put together."""
    return mark >> 2 * _BITS, (mark >> _BITS) & _MASK_BITS, mark & _MASK_BITS


def shown(text: str) -> str:
    """Quote, escape and shorten a text for a message."""
    cut = excerpt.clipped(text, _SHOWN_CHARS_MAX)
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut) + '"'


def dotted(where: Where) -> str:
    """Write a place as its author would: ``spec.sinks[0].otlp_http.headers["X.Y"]``."""
    text = ""
    for number, whole in enumerate(where):
        step: Step = whole
        if isinstance(whole, str):
            end = name_end(whole, where[number - 1] if number else "")
            step = whole if end == len(whole) else f"{whole[:end]}{MASK}"
        if isinstance(step, int):
            text += f"[{step}]"
        elif _FIELD_STEP.fullmatch(step) and len(step) <= _SHOWN_CHARS_MAX:
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text


def name_end(key: str, parent: Step) -> int:
    """Return where the name in a key ends, and a value begins if their divider is missing."""
    found = (_DIVIDER_OF_SECRET if parent in _SECRET_DATA else _DIVIDER).search(key)
    return found.end() if found is not None else len(key)


class TextMark(tuple[Step, ...]):  # noqa: SLOT001 - of a tuple only () is possible
    """The empty place, at an offset of the document's text: where the text is no valid YAML."""

    offset: int

    @classmethod
    def at(cls, offset: int) -> TextMark:
        """Return the mark of that offset."""
        mark = cls()
        mark.offset = offset
        return mark


class SourcePlace(msgspec.Struct, frozen=True):
    """A place in a file.

    ``line`` and ``column`` count from 1; ``shown`` is the masked line, and ``offset`` the position
    of the caret in it.
    """

    line: int
    column: int
    shown: str = ""
    offset: int = 0

    @property
    def excerpt(self) -> str:
        """The line with a caret below the place, or ""."""
        return excerpt.excerpt(self.shown, self.offset) if self.shown.strip() else ""


class PackedPlaces:
    """Places that stay known once their text is not: a tenth of what the objects would take."""

    __slots__ = ("_lines", "_numbers")

    def __init__(self, places: Iterable[SourcePlace] = ()) -> None:
        # No shown line has the end of one in it.
        places = tuple(places)
        starts: dict[str, int] = {}
        start = 0
        for place in places:
            if place.shown not in starts:
                starts[place.shown] = start
                start += len(place.shown) + 1
        self._lines = "\n".join(starts)
        self._numbers = b"".join(
            _PLACE.pack(one.line, one.column, one.offset, starts[one.shown]) for one in places
        )

    def __getitem__(self, number: int) -> SourcePlace:
        line, column, offset, start = _PLACE.unpack_from(self._numbers, number * _PLACE.size)
        end = self._lines.find("\n", start)
        return SourcePlace(line, column, self._lines[start : end if end >= 0 else None], offset)

    def __repr__(self) -> str:
        return f"<PackedPlaces {len(self._numbers) // _PLACE.size} places>"


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same parts in order, none of which touches another."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class SourceText:
    """The text of one document, and the parts that must not be shown."""

    __slots__ = ("_breaks", "_line_first", "_masked", "_text")

    def __init__(self, text: str, line_first: int) -> None:
        self._text = text
        self._line_first = line_first
        self._masked: Sequence[tuple[int, int]] = ()
        self._breaks: list[int] | None = None

    def __repr__(self) -> str:
        return f"<SourceText {len(self._text)} characters>"

    def mask(self, start: int, end: int) -> None:
        """Mask this part; parts come in the order of the text."""
        if not isinstance(self._masked, list):
            self._masked = []  # only now: most texts, kept without their content, mask nothing
        self._masked.append((start, end))

    def mask_line(self, offset: int, *, trusted: bool) -> None:
        """Mask possible secrets in a line that is not valid YAML.

        ``trusted``: everything below the line's parents may be shown.
        """
        start = self._text.rfind("\n", 0, offset) + 1
        end = self._text.find("\n", offset)
        end = end if end >= 0 else len(self._text)
        line = self._text[start:end]
        fields = _FIELD.findall(line)
        bare = _BARE.fullmatch(line)
        fields += [bare[1]] if bare else []
        if trusted and fields and all(map(is_public, fields)):
            return
        head = _HEAD.match(line)
        assert head is not None, "the pattern matches the empty string"
        if line[head.end() :].strip():
            self._masked = _merged([*self._masked, (start + head.end(), end)])

    def line(self, offset: int) -> int:
        """Return the line of an offset, from 1 in the file."""
        return self._line_first + bisect_left(self._line_breaks(), offset)

    def place(self, offset: int) -> SourcePlace:
        """Return the place of an offset."""
        breaks = self._line_breaks()
        number = bisect_left(breaks, offset)
        start = breaks[number - 1] + 1 if number else 0
        end = breaks[number] if number < len(breaks) else len(self._text)
        column = offset - start + 1
        # A line can be as long as a file.
        first, last = max(start, offset - WINDOW_CHARS), min(end, offset + WINDOW_CHARS)
        shown, at = self._masked_line(first, last, offset)
        if first > start:
            shown, at = f"{MASK}{shown}", at + 1
        return SourcePlace(
            self._line_first + number, column, shown + (MASK if last < end else ""), at
        )

    def inside(self, start: int, end: int, value: str, offset: int) -> int | None:
        """Return the offset of a character of the scalar that stands from start to end."""
        if end - start > SCALAR_CHARS_MAX:
            return None
        found = source_offset(self._text[start:end], value, offset)
        return None if found is None else start + found

    def between(self, start: int, end: int) -> str:
        """Return the text from start to end, "" where that is long."""
        return self._text[start:end] if end - start <= WINDOW_CHARS else ""

    def _masked_line(self, start: int, end: int, offset: int) -> tuple[str, int]:
        parts: list[str] = []
        pos, at, size = start, -1, 0
        index = max(0, bisect_right(self._masked, (start, start)) - 1)
        while index < len(self._masked) and self._masked[index][0] < end:
            hidden, behind = self._masked[index]
            index += 1
            hidden, behind = max(hidden, pos), min(behind, end)
            if behind <= hidden:
                continue
            if at < 0 and offset < behind:
                at = size + min(offset, hidden) - pos
            parts += (self._text[pos:hidden], MASK)
            size += hidden - pos + 1
            pos = behind
        if at < 0:
            at = size + offset - pos
        line = "".join((*parts, self._text[pos:end])).removesuffix("\r")
        return line, min(at, len(line))

    def _line_breaks(self) -> list[int]:
        if self._breaks is None:
            self._breaks = [found.start() for found in re.finditer("\n", self._text)]
        return self._breaks
