"""Reading a YAML mapping field by field, with every fault noted and none of them fatal.

Rules:

* A :class:`Section` is asked for each field that it may hold, once. What was never asked for is an
  unknown field when the section closes, with the nearest known one suggested. So the code that
  reads is the schema, and there is no second list to keep in step.
* A fault never raises: the reader gets the default and goes on, so that one pass finds everything.
  Whoever assembles the result looks at :attr:`Report.faulty` before using it.
* null is the same as absent, as in Kubernetes.
* Values of fields that may hold secrets are read with ``hidden=True`` and never repeated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import TracebackType
from typing import Self, TypeVar

from relay.config.exporter.field_hints import CREDENTIALS, FIELD_HINTS, MAPPINGS, MISNOMERS
from relay.config.yaml.document import FAULTS_MAX, Document, Step, Where, dotted, shown
from relay.config.yaml.source_positions import TextMark, is_field, is_public
from relay.runtime.errors import Fault, QuantityError
from relay.runtime.quantity import format_bytes, format_duration, parse_bytes, parse_duration_s

Check = Callable[[str], str]
"""Says what is wrong with a text, "" for nothing: ``must be …``."""

T = TypeVar("T")
S = TypeVar("S", bound=str)

_SUGGESTION_CHARS_MAX = 64  # difflib is quadratic
_UNDIVIDED = re.compile(r"[A-Za-z_]\w*:\S")
_BLANK_HINT = "; a field needs a blank behind its colon"
_QUOTED_CHARS_MAX = 200
_CLOSE_CHARS_MIN = 5
_CLOSE_RATIO = 0.85


@dataclass(frozen=True, slots=True)
class _Finding:
    """A fault or warning; the place is as in :meth:`Document.place`."""

    where: Where
    message: str
    on_key: bool
    offset: int | None


class Report:
    """The faults and warnings of one subject (a resource, a settings file) in one document."""

    __slots__ = ("_count", "_faults", "_warnings", "document", "subject")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.subject = ""
        self._faults: list[_Finding] = []
        self._warnings: list[_Finding] = []
        self._count = 0

    def __repr__(self) -> str:
        return f"<Report {self.origin()}: {self._count} faults>"

    def another(self) -> Report:
        """A report of the same subject with nothing in it."""
        report = Report(self.document)
        report.subject = self.subject
        return report

    @property
    def faulty(self) -> bool:
        """Whether anything was wrong."""
        return self._count > 0

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault in the order of the file; beyond a limit, how many more there were."""
        faults = self._placed(self._faults)
        if self._count > len(faults):
            more = f"{self._count - len(faults)} more faults"
            last = faults[-1]
            faults.append(Fault("", more, self.origin(), place=last.place, file=last.file))
        return tuple(faults)

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """Every warning in the order of the file."""
        return tuple(self._placed(self._warnings))

    def _placed(self, findings: list[_Finding]) -> list[Fault]:
        placed = [
            self.document.fault(
                one.where, one.message, subject=self.subject, on_key=one.on_key, offset=one.offset
            )
            for one in findings
        ]
        return sorted(placed, key=attrgetter("place"))

    def origin(self, where: Where = ()) -> str:
        """File, line, document and subject, as in ``Fault.origin``."""
        return self.document.origin(where, self.subject)

    def fault(
        self, where: Where, message: str, *, on_key: bool = False, offset: int | None = None
    ) -> None:
        """Note a fault, of the key of a field or of a character of its text if so said."""
        if not isinstance(where, TextMark) and self.document.is_repaired(where):
            return  # a consequence of what was taken out, which is a fault itself
        self._count += 1
        if len(self._faults) < FAULTS_MAX:
            self._faults.append(_Finding(where, message, on_key, offset))

    def warn(self, where: Where, message: str, *, offset: int | None = None) -> None:
        """Note a warning."""
        if len(self._warnings) < FAULTS_MAX:
            self._warnings.append(_Finding(where, message, on_key=False, offset=offset))


class Section:
    """One mapping, read field by field. Leaving its ``with`` block reports the unknown fields."""

    __slots__ = ("_asked", "_ignored", "_values", "_written", "present", "report", "where")

    def __init__(self, report: Report, where: Where, value: object, *, required: bool) -> None:
        self.report = report
        self.where = where
        self.present = isinstance(value, dict)
        """Whether there is a mapping to read; without one, no field in it is missed."""
        self._values: dict[str, object] = value if isinstance(value, dict) else {}
        self._asked: set[str] = set()
        self._ignored: set[str] = set()
        self._written: dict[str, str] = {}
        """How a field that is misspelt is written."""
        if value is None and required:
            self.report.fault(where, "is required")
        elif value is not None and not self.present:
            hint = _mapping_hint(where) if isinstance(value, str | bool) else ""
            if isinstance(value, str) and _UNDIVIDED.match(value):
                hint = _BLANK_HINT
            self.report.fault(where, f"must be a mapping, not {kind_of(value)}{hint}")

    def __repr__(self) -> str:
        return f"<Section {dotted(self.where) or 'root'}: {len(self._values)} fields>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        for key in self._values:
            if key not in self._asked and key not in self._ignored:
                self.report.fault(
                    (*self.where, key), f"unknown field; {self._hint(key)}", on_key=True
                )

    def _hint(self, unknown: str) -> str:
        """What to write in place of a field that does not exist."""
        meant = next((field for field, key in self._written.items() if key == unknown), "")
        if meant:
            return f'did you mean "{meant}"?'
        misplaced = self._misplaced(unknown)
        if misplaced:
            return misplaced
        if unknown in CREDENTIALS and "secretRef" in self._asked:
            return "put a credential into a Secret, and name that in secretRef"
        accepted = f"accepted here: {', '.join(sorted(self._asked))}"
        return nearest(unknown, self._asked) or accepted

    def _misplaced(self, unknown: str) -> str:
        """Where a field belongs that is known and stands in the wrong place, or ""."""
        own = next((step for step in reversed(self.where) if isinstance(step, str)), "")
        return FIELD_HINTS.get((own, unknown), "")

    def at(self, *steps: Step) -> Where:
        """The place of something in this section."""
        if steps and isinstance(steps[0], str):
            steps = (self._written.get(steps[0], steps[0]), *steps[1:])
        return (*self.where, *steps)

    def fault(self, key: str, message: str) -> None:
        """Note a fault of one field."""
        self.report.fault(self.at(key), message)

    def has(self, key: str) -> bool:
        """Whether the field is there, whatever it holds."""
        return self._value(key) is not None

    def is_empty(self, key: str) -> bool:
        """Whether the field is absent or an empty list."""
        return self._value(key) in (None, [])

    def says(self, key: str, word: str) -> bool:
        """Whether the field holds exactly this word."""
        return self._value(key) == word

    def value_of(self, key: str) -> object:
        """What the field holds, unread, None where it is not there: it is not asked for by that."""
        return self._values.get(key)

    def ignore(self, *keys: str) -> None:
        """Accept fields that mean nothing to us, without advertising them."""
        self._ignored.update(keys)

    def text(
        self,
        key: str,
        *,
        default: str = "",
        required: bool = False,
        check: Check | None = None,
        chars_max: int = 4096,
        empty_ok: bool = False,
        hidden: bool = False,
    ) -> str:
        """A string that ``check`` does not refuse; ``default`` where there is none."""
        value = self._value(key)
        if value is None:
            if required and self.present:
                self.fault(key, "is required")
            return default
        problem = text_problem(value, chars_max=chars_max, empty_ok=empty_ok, hidden=hidden)
        if not problem and check is not None:
            problem = check(str(value))
        if problem:
            if isinstance(value, dict) and is_public(key):
                problem += self._in_quotes(key)
            self.fault(key, problem)
            return default
        return str(value)

    def _in_quotes(self, key: str) -> str:
        """How to write a short text that YAML took for a mapping."""
        written = self.report.document.written(self.at(key))
        if not written.startswith("{") or "\n" in written or len(written) > _QUOTED_CHARS_MAX:
            return ""
        quoted = written.replace("'", "''")
        return f": {key}: '{quoted}'"

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(key, f"must be true or false, not {described(value)}")
            return default
        return value

    def optional_flag(self, key: str) -> bool | None:
        """True, false, or None where the field is absent."""
        return self.flag(key, default=False) if self.has(key) else None

    def integer(self, key: str, *, default: T, minimum: int, maximum: int) -> int | T:
        """A whole number within bounds."""
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            self.fault(
                key, f"must be a whole number from {minimum} to {maximum}, not {described(value)}"
            )
            return default
        return value

    def duration_s(self, key: str, *, default: float, minimum: float, maximum: float) -> float:
        """A Go duration within bounds, all in seconds."""
        value = self._value(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fault(key, f'must be a duration such as "5s", not {described(value)}')
            return default
        try:
            seconds = parse_duration_s(value)
        except QuantityError as error:
            self.fault(key, str(error))
            return default
        if not minimum <= seconds <= maximum:
            bounds = f"{format_duration(minimum)} to {format_duration(maximum)}"
            self.fault(key, f"must be a duration from {bounds}, not {shown(value)}")
            return default
        return seconds

    def size_bytes(self, key: str, *, default: T, minimum: int, maximum: int) -> int | T:
        """A size within bounds, all in bytes."""
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | str):
            self.fault(key, f'must be a size such as "32MiB", not {described(value)}')
            return default
        try:
            size = parse_bytes(value)
        except QuantityError as error:
            self.fault(key, str(error))
            return default
        if not minimum <= size <= maximum:
            bounds = f"{format_bytes(minimum)} to {format_bytes(maximum)}"
            self.fault(key, f"must be a size from {bounds}, not {described(value)}")
            return default
        return size

    def choice(self, key: str, allowed: Sequence[S], *, default: S, required: bool = False) -> S:
        """One of a few words."""
        value = self._value(key)
        if value is None:
            if required and self.present:
                self.fault(key, f"is required: one of {', '.join(allowed)}")
            return default
        for word in allowed:
            if value == word:
                return word
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        self.fault(
            key,
            f"must be one of {', '.join(allowed)}, not {described(value)}"
            + (f"; {hint}" if hint else ""),
        )
        return default

    def section(self, key: str, *, required: bool = False) -> Section:
        """A mapping within this one."""
        value = self._value(key)  # before its place: the field may be misspelt
        return Section(self.report, self.at(key), value, required=required and self.present)

    def values(
        self, key: str, *, count_max: int, count_min: int = 1, required: bool = False
    ) -> list[object]:
        """A list's entries, of whatever kind; its bounds hold where the field is there."""
        value = self._value(key)
        if value is None:
            if required and self.present:
                self.fault(key, "is required")
            return []
        if not isinstance(value, list):
            shape = MAPPINGS.get(key, "") if isinstance(value, str) else ""
            hint = f"; write {key}: [{shape}]" if shape else ""
            self.fault(key, f"must be a list, not {kind_of(value)}{hint}")
            return []
        if not count_min <= len(value) <= count_max:
            self.fault(key, f"must have {count_min} to {count_max} entries, not {len(value)}")
            return []
        return value

    def sections(
        self, key: str, *, count_max: int, count_min: int = 1, required: bool = False
    ) -> list[Section]:
        """A list of mappings; one must be there where ``required``."""
        values = self.values(key, count_min=count_min, count_max=count_max, required=required)
        return [
            Section(self.report, self.at(key, index), value, required=True)
            for index, value in enumerate(values)
        ]

    def texts(self, key: str, *, count_max: int, check: Check | None = None) -> tuple[str, ...]:
        """A list of one or more strings; () where the field is absent."""
        good: list[str] = []
        for index, value in enumerate(self.values(key, count_max=count_max)):
            problem = text_problem(value)
            if not problem and check is not None:
                problem = check(str(value))
            if problem:
                self.report.fault(self.at(key, index), problem)
            else:
                good.append(str(value))
        return tuple(good)

    def table(self, key: str, *, count_max: int, chars_max: int = 4096) -> dict[str, str]:
        """A mapping of any names to strings, whose values are never repeated in a message."""
        entries = self._value(key)
        if entries is None:
            return {}
        if not isinstance(entries, dict):
            self.fault(key, f"must be a mapping, not {kind_of(entries)}")
            return {}
        if len(entries) > count_max:
            self.fault(key, f"must have at most {count_max} entries, not {len(entries)}")
            return {}
        good: dict[str, str] = {}
        for name, value in entries.items():
            problem = text_problem(value, chars_max=chars_max, empty_ok=True, hidden=True)
            if value is None and _UNDIVIDED.match(name):
                problem += _BLANK_HINT
            if problem:
                self.report.fault(self.at(key, name), problem)
            else:
                good[name] = str(value)
        return good

    def _value(self, key: str) -> object:
        """The field's value; that of a field which is plainly the same one misspelt is read too."""
        self._asked.add(key)
        if key not in self._values and key not in self._written:
            for candidate in self._values:
                if candidate in self._asked or self._misplaced(candidate):
                    continue
                if _is_misspelt(candidate, key):
                    self._written[key] = candidate
                    break
        return self._values.get(self._written.get(key, key))


def _mapping_hint(where: Where) -> str:
    """What to write where a word stands in the place of a mapping, "" where that is not told."""
    field = next((step for step in reversed(where) if isinstance(step, str)), "")
    shape = MAPPINGS.get(field, "")
    if not shape:
        return ""
    return f"; write {field}: {shape}" if where[-1] == field else f"; write {shape}"


def described(value: object) -> str:
    """A value in a message: what it is, and how it looks where that helps and is short."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else f"the number {value}"


def kind_of(value: object) -> str:
    """What a value is, without showing it: in the place of a structure there may stand a secret."""
    if isinstance(value, str):
        return "a string"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number else described(value)


def text_problem(
    value: object, *, chars_max: int = 4096, empty_ok: bool = False, hidden: bool = False
) -> str:
    """What keeps a value from being a string of one to ``chars_max`` characters, "" for nothing."""
    if isinstance(value, dict):
        return "must be a string, not a mapping; in YAML, what begins with { must be in quotes"
    if isinstance(value, list) or value is None:
        return f"must be a string, not {described(value)}"
    if not isinstance(value, str):
        return "must be a string: put it in quotes" + ("" if hidden else f" ({described(value)})")
    if not value and not empty_ok:
        return "must not be empty"
    if len(value) > chars_max:
        return f"must have at most {chars_max} characters, not {len(value)}"
    return ""


def nearest(word: str, known: Sequence[str] | set[str]) -> str:
    """``did you mean "…"?`` for a misspelt word, "" where nothing known is close."""
    if len(word) > _SUGGESTION_CHARS_MAX:
        return ""
    folded = {_fold(candidate): candidate for candidate in sorted(known)}
    close = difflib.get_close_matches(_fold(word), folded, n=1)
    return f'did you mean "{folded[close[0]]}"?' if close else ""


def _is_misspelt(word: str, field: str) -> bool:
    """Whether a field that does not exist can only be meant as ``field``."""
    if MISNOMERS.get(word) == field or _fold(word) == _fold(field):
        return True
    if is_field(word) or not _CLOSE_CHARS_MIN <= len(word) <= _SUGGESTION_CHARS_MAX:
        return False
    close = difflib.SequenceMatcher(None, _fold(word), _fold(field))
    return close.real_quick_ratio() > _CLOSE_RATIO and close.ratio() > _CLOSE_RATIO


def _fold(word: str) -> str:
    """Without what people vary between naming conventions."""
    return word.replace("_", "").replace("-", "").lower()
