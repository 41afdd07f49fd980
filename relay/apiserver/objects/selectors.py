"""Label and field selectors of lists and watches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import bad_request
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.objects.metadata import key_problem, value_problem

SELECTOR_CHARS_MAX: Final = 16 * 1024
_WORD: Final = re.compile(r"\s*(?:(==|!=|=|!|,|\(|\)|<|>)|([^\s=!,()<>]+))")
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


class _Parser:
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
        found: list[LabelRequirement] = []
        while self._peek():
            found.append(self._requirement())
            word = self._next()
            if word not in ("", ","):
                raise ValueError(f"found '{word}', expected: ',' or 'end of string'")
            if word == "," and not self._peek():
                raise ValueError("found '', expected: identifier after ','")
        return tuple(sorted(found, key=lambda one: one.key))

    def _requirement(self) -> LabelRequirement:
        if self._peek() == "!":
            self._next()
            return LabelRequirement(self._key(), "absent")
        key = self._key()
        word = self._peek()
        if word in ("", ","):
            return LabelRequirement(key, "exists")
        self._next()
        if word in _COMPARISONS:
            value = self._next()
            if not re.fullmatch(r"-?[0-9]+", value):
                raise ValueError("for 'Gt', 'Lt' operators, the value must be an integer")
            return LabelRequirement(key, _COMPARISONS[word], (value,))
        if word not in _OPERATORS:
            raise ValueError(f"found '{word}', expected: {_EXPECTED}")
        is_set = word in ("in", "notin")
        values = self._set() if is_set else (self._value(),)
        for value in values:
            if problem := value_problem(value):
                raise ValueError(f'values[0][{key}]: Invalid value: "{value}": {problem}')
        return LabelRequirement(key, _OPERATORS[word], values)

    def _key(self) -> str:
        word = self._next()
        if word in ("", ",", "(", ")", "=", "==", "!=", "!", "<", ">"):
            raise ValueError(f"found '{word}', expected: !, identifier, or 'end of string'")
        if problem := key_problem(word):
            raise ValueError(f'key: Invalid value: "{word}": {problem}')
        return word

    def _value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        word = self._next()
        if word in ("(", ")", "=", "==", "!=", "!", "<", ">"):
            raise ValueError(f"found '{word}', expected: identifier")
        return word

    def _set(self) -> tuple[str, ...]:
        word = self._next()
        if word != "(":
            raise ValueError(f"found '{word}' expected: '('")
        values = [self._value()]
        while (word := self._next()) == ",":
            values.append("" if self._peek() == ")" else self._value())
        if word != ")":
            raise ValueError(f"found '{word}', expected: ',' or ')'")
        return tuple(sorted(set(values)))


def parse_label_selector(text: str) -> LabelQuery:
    """Read ``labelSelector``; raise ApiRefusalError for what is none."""
    if len(text) > SELECTOR_CHARS_MAX:
        raise bad_request(f"labelSelector must have at most {SELECTOR_CHARS_MAX} characters")
    try:
        return LabelQuery(_Parser(text).parse())
    except ValueError as error:
        raise bad_request(f"unable to parse requirement: {error}") from error


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
    for part in _split(text):
        if not part:
            continue
        found = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part, re.DOTALL)
        if found is None:
            raise bad_request(
                f"invalid field selector: '{text}'; can't understand '{part}'"
                if len(part) < len(text)
                else f"invalid selector: '{text}'; can't understand '{part}'"
            )
        path, operator, value = found[1], found[2], _unescaped(found[3])
        known = (*_COMMON_FIELDS, *_MORE_FIELDS.get(kind.storage_key, ()))
        if path not in known or (path == "metadata.namespace" and not kind.namespaced):
            raise bad_request(f"field label not supported: {path}")
        terms.append((path, operator != "!=", value))
    return FieldQuery(tuple(terms))


def _split(text: str) -> list[str]:
    """Split at commas that are not escaped."""
    return re.findall(r"(?:[^,\\]|\\.)+", text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([\\,=])", r"\1", text)


def selects(labels: LabelQuery, fields: FieldQuery) -> Callable[[JsonObject], bool] | None:
    """Return a function that says whether an object is selected, None if every one is."""
    if not labels.requirements and not fields.terms:
        return None

    def selected(value: JsonObject) -> bool:
        own = value.get("metadata", {}).get("labels", {})
        return labels.matches(own) and fields.matches(value)

    return selected
