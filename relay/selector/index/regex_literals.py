"""Reduce simple regular expressions to literals and wildcards, which need no regex engine.

Supported: literals, escaped punctuation, plain groups, ``|``, ``?`` on a literal or group, small
ASCII classes, ``.*`` and ``.+``, and ``^`` and ``$`` at the ends. Anything else, and anything that
would grow too large, is ``None``: use the engine. Patterns must compile in the engine's mode: fully
anchored, ``.`` matches every character, no multi-line.

A pattern becomes alternative *shapes*; each is a tuple of literal strings and wildcards, with
neighbours merged and no empty strings.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

SHAPES_MAX: Final = 100
"""Most alternatives after expansion; also VictoriaMetrics' limit for "or values"."""
_PATTERN_CHARS_MAX: Final = 8 * 1024
_WORK_MAX: Final = 20_000
"""Most items put into shapes during expansion."""
_NESTING_MAX: Final = 20
_TESTS_MAX: Final = 16
"""Most tests with wildcards; with more of them, the engine with its cached verdicts is cheaper."""

_SPECIAL: Final = frozenset("\\.+*?()|[]{}^$")
_QUANTIFIERS: Final = frozenset("*+?{")
_CLASS_SINGLES: Final = frozenset("_.:/, @=")


class Mark(enum.Enum):
    """Non-literal parts of a pattern."""

    ANY = ".*"
    SOME = ".+"
    BEGIN = "^"
    END = "$"


Item: TypeAlias = str | Mark
Shape: TypeAlias = tuple[Item, ...]


def shapes(pattern: str) -> tuple[Shape, ...] | None:
    """Return the alternatives of a pattern that compiles; None if it is not simple enough."""
    if len(pattern) > _PATTERN_CHARS_MAX:
        return None
    try:
        found = _Reader(pattern).read()
        return tuple(dict.fromkeys(map(_normalised, found)))
    except _UnsureError:
        return None


def literal_values(found: Sequence[Shape] | None) -> frozenset[str] | None:
    """Return all strings that the shapes match; None if one of them has a wildcard."""
    if found is None:
        return None
    values: set[str] = set()
    for shape in found:
        if not shape:
            values.add("")
        elif len(shape) == 1 and isinstance(shape[0], str):
            values.add(shape[0])
        else:
            return None
    return frozenset(values)


def tester(found: Sequence[Shape] | None) -> Callable[[str], bool] | None:
    """Return a function equal to the engine's full match; None if shapes are too complex."""
    if found is None:
        return None
    values = literal_values([shape for shape in found if not _is_wild(shape)])
    assert values is not None, "shapes without wildcards are literals"
    wild = [shape for shape in found if _is_wild(shape)]
    if not wild:
        return values.__contains__ if len(values) != 1 else next(iter(values)).__eq__
    prefixes = tuple(
        shape[0]
        for shape in wild
        if len(shape) == 2 and isinstance(shape[0], str) and shape[1] is Mark.ANY
    )
    others = [shape for shape in wild if not (shape[-1] is Mark.ANY and shape[0] in prefixes)]
    tests: list[Callable[[str], bool]] = []
    for shape in others:
        test = _wild_tester(shape)
        if test is None or len(tests) == _TESTS_MAX:
            return None
        tests.append(test)
    if values:
        tests.insert(0, values.__contains__)
    if prefixes:
        tests.insert(0, lambda value: value.startswith(prefixes))
    if len(tests) == 1:
        return tests[0]
    return lambda value: any(test(value) for test in tests)


def _is_wild(shape: Shape) -> bool:
    return Mark.ANY in shape or Mark.SOME in shape


def _wild_tester(shape: Shape) -> Callable[[str], bool] | None:
    marks = [item for item in shape if isinstance(item, Mark)]
    if len(marks) == 1:
        return _ends_tester(shape, marks[0])
    match shape:
        case (Mark() as left, str(middle), Mark() as right):
            return _middle_tester(left, middle, right)
        case _:
            return None


def _ends_tester(shape: Shape, mark: Mark) -> Callable[[str], bool]:
    """Test one wildcard with at most one literal on either side."""
    prefix = shape[0] if isinstance(shape[0], str) else ""
    suffix = shape[-1] if isinstance(shape[-1], str) else ""
    size = len(prefix) + len(suffix) + (mark is Mark.SOME)
    return lambda value: len(value) >= size and value.startswith(prefix) and value.endswith(suffix)


def _middle_tester(left: Mark, middle: str, right: Mark) -> Callable[[str], bool]:
    """Test a literal between two wildcards; a ``.+`` needs at least one character."""
    first = 1 if left is Mark.SOME else 0
    if right is Mark.ANY:
        return lambda value: value.find(middle, first) >= 0
    # For "" the end is -1, which find() counts from the end; a literal is never empty, so it is not
    # found.
    return lambda value: value.find(middle, first, len(value) - 1) >= 0


def _normalised(shape: Shape) -> Shape:
    """Drop anchors at the ends and merge neighbours."""
    items = list(shape)
    while items and items[0] is Mark.BEGIN:
        del items[0]
    while items and items[-1] is Mark.END:
        del items[-1]
    out: list[Item] = []
    for item in items:
        last = out[-1] if out else ""
        if item is Mark.BEGIN or item is Mark.END:
            raise _UnsureError  # an anchor in the middle is never simple
        if isinstance(item, str) and isinstance(last, str):
            joined = last + item
            if out:
                out[-1] = joined
            elif joined:
                out.append(joined)
        elif isinstance(item, Mark) and isinstance(last, Mark):
            if item is last is Mark.SOME:
                raise _UnsureError  # at least two characters: there is no mark for that
            out[-1] = Mark.ANY if item is last else Mark.SOME
        else:
            out.append(item)
    return tuple(out)


class _UnsureError(Exception):
    """Report a pattern that is not simple enough."""


class _Reader:
    """Recursive-descent parser of one pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._pos = 0
        self._work = 0
        self._nesting = 0

    def read(self) -> list[Shape]:
        found = self._alternatives()
        if self._pos != len(self._pattern):
            raise _UnsureError
        return found

    def _alternatives(self) -> list[Shape]:
        found = self._sequence()
        while self._take("|"):
            found = list(dict.fromkeys(found + self._sequence()))
            self._check(found)
        return found

    def _sequence(self) -> list[Shape]:
        current: list[Shape] = [()]
        while self._pos < len(self._pattern) and self._pattern[self._pos] not in "|)":
            options = self._atom()
            if self._take("?"):
                self._take("?")  # lazy and greedy match the same strings
                options = [*options, ()]
            if self._peek() in _QUANTIFIERS:
                raise _UnsureError
            current = list(dict.fromkeys(left + right for left in current for right in options))
            self._check(current)
        return current

    def _check(self, found: list[Shape]) -> None:
        self._work += sum(map(len, found))
        if len(found) > SHAPES_MAX or self._work > _WORK_MAX:
            raise _UnsureError

    def _atom(self) -> list[Shape]:
        char = self._pattern[self._pos]
        if char not in _SPECIAL:
            return [(self._literal(),)]
        self._pos += 1
        match char:
            case ".":
                return [(self._wildcard(),)]
            case "(":
                return self._group()
            case "[":
                return [(single,) for single in self._class()]
            case "\\":
                return [(self._escaped(),)]
            case "^" | "$":
                if self._peek() in _QUANTIFIERS:
                    raise _UnsureError
                return [(Mark(char),)]
            case _:
                raise _UnsureError

    def _literal(self) -> str:
        """Read a run of plain characters; a following quantifier applies to the last one alone."""
        start = self._pos
        while self._pos < len(self._pattern) and self._pattern[self._pos] not in _SPECIAL:
            self._pos += 1
        if self._peek() in _QUANTIFIERS and self._pos - start > 1:
            self._pos -= 1
        return self._pattern[start : self._pos]

    def _wildcard(self) -> Mark:
        for mark, sign in ((Mark.ANY, "*"), (Mark.SOME, "+")):
            if self._take(sign):
                self._take("?")
                if self._peek() in _QUANTIFIERS:
                    raise _UnsureError
                return mark
        raise _UnsureError

    def _group(self) -> list[Shape]:
        if self._take("?") and not self._take(":"):
            raise _UnsureError
        self._nesting += 1
        if self._nesting > _NESTING_MAX:
            raise _UnsureError
        found = self._alternatives()
        self._nesting -= 1
        if not self._take(")"):
            raise _UnsureError
        return found

    def _class(self) -> list[str]:
        end = self._pattern.find("]", self._pos)
        inside = self._pattern[self._pos : end]
        if end <= self._pos:
            raise _UnsureError
        self._pos = end + 1
        found: dict[str, None] = {}
        pos = 0
        while pos < len(inside):
            char = inside[pos]
            last = char
            if inside[pos + 1 : pos + 2] == "-":
                last = inside[pos + 2 : pos + 3]
                pos += 2
            if not _is_simple_range(char, last):
                raise _UnsureError
            found.update(dict.fromkeys(map(chr, range(ord(char), ord(last) + 1))))
            pos += 1
        return list(found)

    def _escaped(self) -> str:
        char = self._peek()
        # RE2: a backslash before ASCII punctuation always means the character itself.
        if not char or not char.isascii() or char.isalnum() or char < " " or char == "\x7f":
            raise _UnsureError
        self._pos += 1
        return char

    def _peek(self) -> str:
        return self._pattern[self._pos : self._pos + 1]

    def _take(self, char: str) -> bool:
        taken = self._peek() == char
        self._pos += taken
        return taken


def _is_simple_range(first: str, last: str) -> bool:
    if first == last and first in _CLASS_SINGLES:
        return True
    kinds = (str.isdigit, str.islower, str.isupper)
    return first <= last and any(
        first.isascii() and last.isascii() and kind(first) and kind(last) for kind in kinds
    )
