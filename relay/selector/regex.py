"""Compile regular expressions of selectors: RE2 syntax as in Go, fully anchored.

``.`` matches newlines.

* google-re2 validates the pattern as written, never wrapped: ``a)(b`` would become valid in
  ``^(?:…)$``. ``\\C`` (one byte) is refused as in Go: it can split a character.
* The engine takes linear time, but 1.6 to 5 µs per match. Simple patterns avoid it
  (:mod:`relay.selector.index.regex_literals`), and its verdicts are cached by value, within bounds.
* Memory per pattern is bounded; a pattern that does not fit is refused.
* RE2 takes 1.5 MiB: it is loaded for the first pattern.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from relay.runtime.errors import SelectorError
from relay.selector.index import regex_literals
from relay.selector.regex_classes import translated

REGEX_MEMORY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Most memory of one compiled pattern with its automaton; bytes. RE2's own default."""
VERDICTS_MAX: Final = 1_024
"""Most values whose verdict a pattern caches; at the limit the cache is cleared."""
VERDICT_CHARS_MAX: Final = 256
"""Longest value that is cached, in characters."""
LONG_VALUE_COST_MAX: Final = 3 << 20
"""Instructions for all bytes of a value in :attr:`Regex.matches_start`: 25 ms where RE2 has to
do without its automaton."""
_BYTE_COST: Final = 64
"""Cost of a byte besides those of the pattern."""
LONG_VALUE_MEMORY_BYTES_MAX: Final = 2 << 20
"""Most memory of an automaton for such values: RE2 fills it before it does without, in 10 ms."""
_COMPILED_MAX: Final = 4_096
"""Distinct patterns kept compiled after their last use, so that equal ones are shared."""

# A parenthesis, or a construct in which it has no meaning: escapes and brackets.
_GROUPING: Final = re.compile(r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()]", re.DOTALL)
_REASON_HINTS: Final = {
    "missing )": "close the parenthesis, or write \\( for the character itself",
    "unexpected )": "open the parenthesis, or write \\) for the character itself",
    "missing ]": "close the bracket, or write \\[ for the character itself",
    "no argument for repetition operator": "write a backslash before it for the character itself",
    "bad repetition operator": "repeat once; to repeat what is repeated put it in (…)",
    "invalid character class range": "write the range from the lower to the higher character",
}

_ESCAPES: Final = re.compile(r"\\Q.*?(?:\\E|\Z)|\\(.)", re.DOTALL)


def engine() -> Any:
    """Return the module of RE2."""
    import re2  # noqa: PLC0415 - see above

    return re2


def options(memory_bytes_max: int = REGEX_MEMORY_BYTES_MAX) -> Any:
    """Return the ``re2.Options`` for every pattern of a selector."""
    made = engine().Options()
    made.dot_nl = True
    made.never_capture = True
    made.log_errors = False
    made.max_mem = memory_bytes_max
    return made


class Regex:
    """A compiled pattern. Make it with :func:`compile_regex`, which shares equal ones."""

    __slots__ = (
        "_engine",
        "_verdicts",
        "engine_pattern",
        "instructions",
        "matches",
        "pattern",
        "values",
    )

    matches: Callable[[str], bool]
    """Return whether the whole of a value matches."""

    def __init__(self, pattern: str, engine: Any, engine_pattern: str) -> None:
        self.pattern: Final = pattern
        self.engine_pattern: Final = engine_pattern
        """The pattern as passed to RE2."""
        self.instructions: Final[int] = engine.programsize
        """Compiled size, in RE2 instructions of 16 bytes."""
        found = regex_literals.shapes(pattern)
        self.values: Final = regex_literals.literal_values(found)
        """All values that the pattern matches, possibly with ""; None if they are many or
        unknown."""
        test = regex_literals.tester(found)
        self._engine: Final[Any] = engine if test is None else None
        self._verdicts: Final[dict[str, bool]] = {}
        self.matches = test or self._ask

    @property
    def cost(self) -> int:
        """RE2 instructions per character of a value in the worst case; 0 without RE2."""
        return 0 if self._engine is None else self.instructions

    @property
    def bytes_max(self) -> int:
        """Most bytes of a value that :attr:`matches_start` looks at; 0: all."""
        if self._engine is None:
            return 0
        return max(1, LONG_VALUE_COST_MAX // (_BYTE_COST + self.instructions))

    @property
    def matches_start(self) -> Callable[[str], bool]:
        """Like :attr:`matches`, of whole characters in the first :attr:`bytes_max` bytes.

        For values that senders may make as long as they like. Short ones are looked at as a whole,
        also where a very large pattern leaves fewer bytes: names are not longer.
        """
        if self._engine is None:
            return self.matches
        module = engine()
        bytes_max, ask, own = self.bytes_max, self._ask, self._engine
        with suppress(module.error):  # a pattern that needs more memory by itself
            own = module.compile(self.engine_pattern, options(LONG_VALUE_MEMORY_BYTES_MAX))

        def matches_start(value: str) -> bool:
            if len(value) <= VERDICT_CHARS_MAX:
                return ask(value)
            encoded = value[:bytes_max].encode()
            if len(encoded) > bytes_max:
                encoded = encoded[:bytes_max].decode(errors="ignore").encode()
            return own.fullmatch(encoded) is not None

        return matches_start

    def _ask(self, value: str) -> bool:
        verdict = self._verdicts.get(value)
        if verdict is None:
            verdict = self._engine.fullmatch(value.encode()) is not None
            if len(value) <= VERDICT_CHARS_MAX:
                if len(self._verdicts) >= VERDICTS_MAX:
                    self._verdicts.clear()
                self._verdicts[value] = verdict
        return verdict

    def __repr__(self) -> str:
        how = "literal" if self._engine is None else "engine"
        return f"<Regex {self.pattern!r} {how}>"


def compile_regex(pattern: str) -> Regex:
    """Compile ``pattern``. Raise SelectorError, whose text is the pattern, if it is not valid."""
    return _compiled(pattern)


def or_values(pattern: str) -> frozenset[str] | None:
    """Return all values that ``pattern`` matches if it is an alternation of at most 100; else None.

    "" may be among them: it stands for a missing label, which no lookup by value finds.
    """
    return regex_literals.literal_values(regex_literals.shapes(pattern))


@functools.lru_cache(maxsize=_COMPILED_MAX)
def _compiled(pattern: str) -> Regex:
    for escape in _ESCAPES.finditer(pattern):
        if escape[1] == "C":
            raise SelectorError(
                "invalid regular expression: \\C is not supported",
                text=pattern,
                offset=escape.start(),
                hint="write . for any character",
            )
    engine_pattern = translated(pattern)
    re2 = engine()
    try:
        compiled = re2.compile(engine_pattern, options())
    except UnicodeEncodeError as error:
        raise SelectorError(
            "invalid regular expression: it is not valid UTF-8", text=pattern, offset=error.start
        ) from None
    except re2.error as error:
        reason = _reason(error)
        raise SelectorError(
            f"invalid regular expression: {reason}",
            text=pattern,
            offset=_offset(pattern, reason),
            hint=_hint(pattern, reason),
        ) from None
    return Regex(pattern, compiled, engine_pattern)


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _offset(pattern: str, reason: str) -> int:
    """Return the offset in the pattern for the engine's message, which quotes the faulty part."""
    what, _, part = reason.partition(": ")
    if what.startswith("missing )"):
        return _unclosed(pattern)
    if what.startswith("unexpected )"):
        return _unopened(pattern)
    return max(pattern.find(part), 0) if part and part != pattern else 0


def _unclosed(pattern: str) -> int:
    """Return the offset of the last parenthesis that is never closed; 0 if there is none."""
    opened: list[int] = []
    for found in _GROUPING.finditer(pattern):
        if found[0] == "(":
            opened.append(found.start())
        elif found[0] == ")" and opened:
            opened.pop()
    return opened[-1] if opened else 0


def _unopened(pattern: str) -> int:
    depth = 0
    for found in _GROUPING.finditer(pattern):
        if found[0] == "(":
            depth += 1
        elif found[0] == ")":
            depth -= 1
            if depth < 0:
                return found.start()
    return 0


def _hint(pattern: str, reason: str) -> str:
    if re.search(r"\(\?(?:[=!>]|<[=!])", pattern):
        return "RE2 has no look-around and no atomic groups"
    if pattern.startswith("*"):
        return "any text is .* and not *"
    if re.search(r"range: \\[pP]", reason):
        return "there is no such class; there are \\p{L}, \\p{Greek} and others of Unicode"
    return next((hint for part, hint in _REASON_HINTS.items() if reason.startswith(part)), "")
