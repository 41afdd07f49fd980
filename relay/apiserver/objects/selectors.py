"""Label and field selectors of lists and watches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import bad_request
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.objects.metadata import key_problem, value_problem

SELECTOR_CHARS_MAX: Final = 16 * 1024
TERMS_MAX: Final = 50
"""Parts of a selector, each of which is compared with every object."""
_WORD: Final = re.compile(r"\s*(?:(==|!=|=|!|,|\(|\)|<|>)|([^\s=!,()<>]+))")
_SYMBOLS: Final = frozenset({"=", "==", "!=", "!", ",", "(", ")", "<", ">"})
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_TERM: Final = re.compile(r"(?:[^,\\]|\\.)+", re.DOTALL)
_FIELD_TERM: Final = re.compile(r"(.*?)(!=|==|=)(.*)", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\([\\,=])")
_OPERATORS: Final = {"=": "in", "==": "in", "!=": "notin", "in": "in", "notin": "notin"}
_COMPARISONS: Final = {">": "gt", "<": "lt", "gt": "gt", "lt": "lt"}
_EXPECTED: Final = "in, notin, =, ==, !=, gt, lt"


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One requirement; ``operator`` is in, notin, exists, absent, gt or lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return True if labels meet it; a label that is absent is not in any set."""
        value = labels.get(self.key)
        if self.operator == "exists":
            return value is not None
        if self.operator in ("absent", "notin"):
            return value is None or (value not in self.values and self.operator == "notin")
        if value is None:
            return False
        if self.operator == "in":
            return value in self.values
        try:
            own, limit = int(value), int(self.values[0])
        except ValueError:
            return False
        return own > limit if self.operator == "gt" else own < limit


@dataclass(frozen=True, slots=True)
class LabelQuery:
    """Requirements that must all hold; none selects everything."""

    requirements: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return True if an object with these labels is selected."""
        return all(one.holds(labels) for one in self.requirements)


class _SelectorError(Exception):
    """A selector cannot be read."""


class _Parser:
    """Reads the grammar of apimachinery's ``labels``, with its messages."""

    def __init__(self, text: str) -> None:
        self._words: list[str] = []
        place = 0
        while found := _WORD.match(text, place):
            self._words.append(found[1] or found[2])
            place = found.end()
        self._place = 0

    def _next(self) -> str:
        word = self._peek()
        self._place += 1
        return word

    def _peek(self) -> str:
        return self._words[self._place] if self._place < len(self._words) else ""

    def parse(self) -> tuple[LabelRequirement, ...]:
        """Return the requirements; raise _SelectorError."""
        found: list[LabelRequirement] = []
        while word := self._peek():
            if word in _SYMBOLS and word != "!":
                said = f"found '{word}', expected: !, identifier, or 'end of string'"
                raise _SelectorError(said)
            try:
                found.append(self._requirement())
            except _SelectorError as error:
                raise _SelectorError(f"unable to parse requirement: {error}") from None
            word = self._next()
            if word not in ("", ","):
                raise _SelectorError(f"found '{word}', expected: ',' or 'end of string'")
            after = self._peek()
            if word == "," and (not after or (after in _SYMBOLS and after != "!")):
                raise _SelectorError(f"found '{after}', expected: identifier after ','")
        return tuple(found)

    def _requirement(self) -> LabelRequirement:
        is_absent = self._peek() == "!"
        if is_absent:
            self._next()
        key = self._next()
        if not key or key in _SYMBOLS:
            raise _SelectorError(f"found '{key}', expected: identifier")
        if problem := key_problem(key):
            raise _SelectorError(f"<nil>: Invalid value: {_quoted(key)}: {problem}")
        if is_absent or self._peek() in ("", ","):
            return LabelRequirement(key, "absent" if is_absent else "exists")
        word = self._next()
        operator = _OPERATORS.get(word) or _COMPARISONS.get(word)
        if operator is None:
            raise _SelectorError(f"found '{word}', expected: {_EXPECTED}")
        values = self._set() if word in ("in", "notin") else (self._value(),)
        faults = list(_value_faults(key, operator, values))
        if faults:
            said = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
            raise _SelectorError(said)
        return LabelRequirement(key, operator, values)

    def _value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        word = self._next()
        if word in _SYMBOLS:
            raise _SelectorError(f"found '{word}', expected: identifier")
        return word

    def _set(self) -> tuple[str, ...]:
        word = self._next()
        if word != "(":
            raise _SelectorError(f"found '{word}' expected: '('")
        first = self._peek()
        if first == ")":
            self._next()
            return ("",)
        if not first or (first in _SYMBOLS and first != ","):
            raise _SelectorError(f"found '{first}', expected: ',', ')' or identifier")
        values = self._listed()
        word = self._next()
        if word != ")":
            raise _SelectorError(f"found '{first}', expected: ')'")
        return tuple(sorted(values))

    def _listed(self) -> set[str]:
        values: set[str] = set()
        while True:
            word = self._next()
            after = self._peek()
            if word == ",":
                if not values:
                    values.add("")
                if after in (")", ","):
                    values.add("")
                if after == ")":
                    return values
            elif not word or word in _SYMBOLS:
                raise _SelectorError(f"found '{word}', expected: ',', or identifier")
            else:
                values.add(word)
                if after == ")":
                    return values
                if after != ",":
                    raise _SelectorError(f"found '{after}', expected: ',' or ')'")


def _value_faults(key: str, operator: str, values: tuple[str, ...]) -> Iterator[str]:
    for index, value in enumerate(values):
        if operator in ("gt", "lt") and not _INTEGER.fullmatch(value):
            message = "for 'Gt', 'Lt' operators, the value must be an integer"
            yield f"values[{index}]: Invalid value: {_quoted(value)}: {message}"
    for index, value in enumerate(values):
        if problem := value_problem(value):
            yield f"values[{index}][{key}]: Invalid value: {_quoted(value)}: {problem}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def parse_label_selector(text: str) -> LabelQuery:
    """Read ``labelSelector``; raise ApiRefusalError for what is none."""
    if len(text) > SELECTOR_CHARS_MAX:
        raise bad_request(f"labelSelector must have at most {SELECTOR_CHARS_MAX} characters")
    try:
        found = LabelQuery(_Parser(text).parse())
    except _SelectorError as error:
        raise bad_request(str(error)) from error
    if len(found.requirements) > TERMS_MAX:
        raise bad_request(f"labelSelector must have at most {TERMS_MAX} requirements")
    return found


_COMMON_FIELDS: Final = ("metadata.name", "metadata.namespace")
_MORE_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "secrets": ("type",),
    "namespaces": ("status.phase",),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
}


@dataclass(frozen=True, slots=True)
class FieldQuery:
    """Fields with the values that they must, or must not, have."""

    terms: tuple[tuple[str, bool, str], ...] = ()
    """Path, whether it must be equal, and the value."""

    def matches(self, value: JsonObject) -> bool:
        """Return True if an object is selected."""
        return all(
            (_field(value, path) == wanted) == is_equal for path, is_equal, wanted in self.terms
        )

    def exact(self, path: str) -> str:
        """Return the value that a field must have, "" if it is not selected by one."""
        return next((v for p, is_equal, v in self.terms if p == path and is_equal), "")


def _field(value: JsonObject, path: str) -> str:
    found: Any = value
    if path == "source":
        path = "source.component"
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def parse_field_selector(text: str, kind: ResourceKind) -> FieldQuery:
    """Read ``fieldSelector``; raise ApiRefusalError for a field that the kind does not offer."""
    if len(text) > SELECTOR_CHARS_MAX:
        raise bad_request(f"fieldSelector must have at most {SELECTOR_CHARS_MAX} characters")
    terms: list[tuple[str, bool, str]] = []
    parts = sorted(_TERM.findall(text))
    if len(parts) > TERMS_MAX:
        raise bad_request(f"fieldSelector must have at most {TERMS_MAX} terms")
    for part in parts:
        found = _FIELD_TERM.fullmatch(part)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = found[1], found[2], found[3]
        known = (*_COMMON_FIELDS, *_MORE_FIELDS.get(kind.storage_key, ()))
        terms.append((path, operator != "!=", _unescaped(value)))
        if path not in known or (path == "metadata.namespace" and not kind.namespaced):
            raise bad_request(f"field label not supported: {path}")
    return FieldQuery(tuple(terms))


def _unescaped(text: str) -> str:
    """Return a value without its escapes; raise ApiRefusalError for a wrong one."""
    wrong = _ESCAPE.sub("", text)
    if "\\" in wrong:
        sequence = wrong[wrong.index("\\") :][:2]
        raise bad_request(f"invalid field selector: invalid escape sequence: {sequence}")
    for character in ",=":
        if character in wrong:
            raise bad_request(f"invalid field selector: unescaped character in value: {character}")
    return _ESCAPE.sub(r"\1", text)


def selects(labels: LabelQuery, fields: FieldQuery) -> Callable[[JsonObject], bool] | None:
    """Return a function that says whether an object is selected, None if every one is."""
    if not labels.requirements and not fields.terms:
        return None

    def selected(value: JsonObject) -> bool:
        own = value.get("metadata", {}).get("labels", {})
        return labels.matches(own) and fields.matches(value)

    return selected
