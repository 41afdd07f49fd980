"""Regular expressions of selectors: Go's RE2 syntax, fully anchored, ``.`` matches line breaks too.

Rules:

* google-re2 decides what is valid, on the pattern as written: never wrapped first, as ``a)(b``
  would become valid in ``^(?:…)$``. ``\\C`` (one byte) is refused as in Go: it can cut a character
  in two.
* The engine takes linear time, but 1.6 to 5 µs a question. Simple patterns never reach it
  (``shapes``), and its verdicts are remembered for each value, within bounds.
* Memory for one pattern is bounded; what does not fit is "too large", not slow.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final

import re2

from relay.errors import SelectorError
from relay.selector import shapes

REGEX_MEMORY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one compiled pattern with its automaton; RE2's own default."""
VERDICTS_MAX: Final = 1_024
"""Values whose verdict a pattern remembers; at the limit it forgets them all."""
VERDICT_CHARS_MAX: Final = 256
"""Longer values are not remembered."""
_COMPILED_MAX: Final = 4_096
"""Distinct patterns kept compiled beyond their use, so that equal ones are shared."""

_ESCAPES: Final = re.compile(r"\\Q.*?(?:\\E|\Z)|\\(.)", re.DOTALL)


def options(memory_bytes_max: int = REGEX_MEMORY_BYTES_MAX) -> Any:
    """The one mode in which every pattern of a selector is read; an ``re2.Options``."""
    made = re2.Options()
    made.dot_nl = True
    made.never_capture = True
    made.log_errors = False
    made.max_mem = memory_bytes_max
    return made


class Regex:
    """A compiled pattern. Make it with :func:`compile_regex`, which shares equal ones."""

    __slots__ = ("_engine", "_verdicts", "instructions", "matches", "pattern", "values")

    matches: Callable[[str], bool]
    """Whether the whole of a value matches."""

    def __init__(self, pattern: str, engine: Any) -> None:
        self.pattern: Final = pattern
        self.instructions: Final[int] = engine.programsize
        """Size as compiled, in RE2's instructions of 16 bytes."""
        found = shapes.shapes(pattern)
        self.values: Final = shapes.literal_values(found)
        """All the values it matches, "" perhaps among them, where these are few and known."""
        test = shapes.tester(found)
        self._engine: Final[Any] = engine if test is None else None
        self._verdicts: Final[dict[str, bool]] = {}
        self.matches = test or self._ask

    @property
    def cost(self) -> int:
        """Instructions that RE2 may look at for each character of a value; 0 where it is never
        asked."""
        return 0 if self._engine is None else self.instructions

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
    """Compile ``pattern``. Raises SelectorError, whose text is the pattern, if it is not valid."""
    return _compiled(pattern)


def or_values(pattern: str) -> frozenset[str] | None:
    """All values that ``pattern`` matches, if it is an alternation of at most 100; else None.

    "" may be among them: it stands for a label that is absent, which no lookup by value can find.
    """
    return shapes.literal_values(shapes.shapes(pattern))


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
    try:
        engine = re2.compile(pattern, options())
    except UnicodeEncodeError as error:
        raise SelectorError(
            "invalid regular expression: it is not valid UTF-8", text=pattern, offset=error.start
        ) from None
    except re2.error as error:
        raise SelectorError(
            f"invalid regular expression: {_reason(error)}",
            text=pattern,
            offset=0,
            hint=_hint(pattern),
        ) from None
    return Regex(pattern, engine)


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _hint(pattern: str) -> str:
    if re.search(r"\(\?(?:[=!>]|<[=!])", pattern):
        return "RE2 has no look-around and no atomic groups"
    if pattern.startswith("*"):
        return "any text is .* and not *"
    return ""
