"""Validates plain values by a schema, completes them, and collects every fault at once.

Rules:

* A fault never raises and never hides another. The faulty part is left out of the values, so that
  the rest can be read; places refer to the author's text.
* A field that is clearly a misspelt known one is a fault, and is read as the known one.
* null is the same as absent, as in Kubernetes, but for entries of lists and of maps of any names.
* Types, bounds, lengths and patterns are checked by :mod:`relay.config.schema.violations`; unknown
  fields, names that are taken, quantities and rules over several fields here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.config.schema import messages
from relay.config.schema.quantities import duration_check, size_check
from relay.config.schema.rules import Rule
from relay.config.schema.source import Node, completed
from relay.config.schema.violations import violations
from relay.config.schema.words import is_misspelt, nearest
from relay.config.yaml.document import FAULTS_MAX, Step, Where, shown
from relay.config.yaml.report import Report
from relay.config.yaml.source_positions import is_public

_QUOTED_CHARS_MAX: Final = 200
_UNQUOTED: Final = "in YAML, what begins with { must be in quotes"

Check = Callable[[str], str]


class Schema:
    """A schema that is ready for use. ``checks`` and ``rules`` are those that it names."""

    def __init__(
        self, root: Node, *, checks: Mapping[str, Check], rules: Mapping[str, Rule]
    ) -> None:
        self.root: Final = completed(root)
        self.checks: Final = checks
        self.rules: Final = rules

    def read(self, report: Report, where: Where, value: object) -> Reading:
        """Read a value that stands at ``where``; its faults go to the report."""
        reading = Reading(self, report, where)
        reading.read(value)
        return reading

    def __repr__(self) -> str:
        return f"<Schema {', '.join(self.root['properties'])}>"


class Reading:
    """The result of reading one value: ``values`` with defaults and without faulty parts.

    A faulty entry of a list is None there, so that the others keep their places.
    """

    def __init__(self, schema: Schema, report: Report, where: Where) -> None:
        self.report: Final = report
        self.values: dict[str, Any] = {}
        self._schema = schema
        self._where = where
        self._written: dict[Where, str] = {}
        """Author's spelling of each misspelt field, by its canonical place."""
        self._faulty: set[Where] = set()
        self._unknown: list[tuple[Where, str]] = []
        self._checks: list[tuple[Where, Any, Callable[[Any], str]]] = []
        self._rules: list[tuple[Where, Rule, Any]] = []

    def __repr__(self) -> str:
        return f"<Reading of {self.report.origin(self._where)}>"

    def at(self, *steps: Step) -> Where:
        """Return the place in the document of a canonical place."""
        if not self._written:
            return (*self._where, *steps)
        written = (self._written.get(steps[: i + 1], step) for i, step in enumerate(steps))
        return (*self._where, *written)

    def fault(self, *steps: Step, message: str) -> None:
        """Note a fault of a canonical place."""
        self.report.fault(self.at(*steps), message)

    def warn(self, *steps: Step, message: str, offset: int | None = None) -> None:
        """Note a warning of a canonical place."""
        self.report.warn(self.at(*steps), message, offset=offset)

    def is_faulty(self, *steps: Step) -> bool:
        """Return True if this very place has a fault."""
        return steps in self._faulty

    def read(self, value: object) -> None:
        """Read the value; called once."""
        taken = self._take(self._schema.root, value, (), ())
        self._find_schema_faults(taken)
        for path, checked, check in self._checks:
            if path not in self._faulty and isinstance(checked, str | int):
                problem = check(checked)
                if problem:
                    self._note(path, problem)
        faulty = frozenset(self._faulty)
        for path, rule, own in self._rules:
            if not (faulty and _is_any_faulty(faulty, path, rule)):
                for steps, message in rule.faults(own):
                    self.fault(*path, *steps, message=message)
        for where, message in self._unknown:
            self.report.fault(where, message, on_key=True)
        if isinstance(taken, dict):
            for path in self._faulty:
                _leave_out(taken, path)
            self.values = taken

    def _note(self, path: Where, message: str) -> None:
        self._faulty.add(path)
        self.report.fault(self.at(*path), message)

    def _find_schema_faults(self, value: object) -> None:
        for path, keyword, node, own, field in violations(self._schema.root, value):
            if field:
                self._note((*path, field), messages.missing(node["properties"][field]))
                continue
            if path in self._faulty:
                continue
            said = messages.message(keyword, node, own, self.at(*path) or ("",))
            if own is None and len(path) > 1:
                said += messages.blank_hint(str(path[-1]))
            if said.endswith(_UNQUOTED) and is_public(str(path[-1])):
                said += self._in_quotes(path)
            self._note(path, said)

    def _in_quotes(self, path: Where) -> str:
        """Return how to write a short text that YAML took for a mapping."""
        written = self.report.document.written(self.at(*path))
        if not written.startswith("{") or "\n" in written or len(written) > _QUOTED_CHARS_MAX:
            return ""
        quoted = written.replace("'", "''")
        return f": {path[-1]}: '{quoted}'"

    def _take(self, node: Node, value: Any, path: Where, parents: tuple[Node, ...]) -> Any:
        """Return a copy of a value with canonical names and defaults; note what to check in it."""
        kind = node.get("type")
        if kind == "object":
            if not isinstance(value, dict):
                return value
            taken = self._take_object(node, value, path, parents)
            self._note_rules(node, taken, path)
            return taken
        if kind == "array":
            if not isinstance(value, list):
                return value
            if len(value) > node["maxItems"]:
                self._note(path, messages.message("maxItems", node, value, path))
                return []  # no errors of entries, which may be a million
            items = node["items"]
            above = (*parents, node)
            entries = [
                self._take(items, one, (*path, index), above) for index, one in enumerate(value)
            ]
            self._note_rules(node, entries, path)
            self._find_repeated(node, entries, path)
            return entries
        takes_integers = kind == "integer" or "x-relay-size" in node
        if takes_integers and isinstance(value, float) and value.is_integer():
            # JSON Schema takes 5.0 for a whole number; it is not what the author of a YAML means.
            self._note(path, messages.message("type", node, value, path))
        self._note_checks(node, value, path)
        return value

    def _take_object(
        self, node: Node, value: dict[str, Any], path: Where, parents: tuple[Node, ...]
    ) -> dict[str, Any]:
        properties: dict[str, Node] = node.get("properties", {})
        extra = node.get("additionalProperties")
        if extra is not None and len(value) > node["maxProperties"]:
            self._note(path, messages.message("maxProperties", node, value, path))
            return {}
        taken: dict[str, Any] = {}
        unknown: list[str] = []
        above = (*parents, node)
        for key, own in value.items():
            if key in properties:
                if own is not None:
                    taken[key] = self._take(properties[key], own, (*path, key), above)
            elif extra is not None:
                if "x-relay-keys" in node:
                    check = self._schema.checks[node["x-relay-keys"]]
                    self._checks.append(((*path, key), key, check))
                taken[key] = self._take(extra, own, (*path, key), above)
            else:
                unknown.append(key)
        for key in unknown:
            if len(self._unknown) >= FAULTS_MAX:  # no more is told, and hints cost time
                self._unknown.append(((*self.at(*path), key), "unknown field"))
                continue
            meant = self._meant(node, key, value, path, parents)
            if meant:
                self._written[*path, meant] = key
                if value[key] is not None:
                    taken[meant] = self._take(properties[meant], value[key], (*path, meant), above)
            elif key in node.get("x-relay-unknown", {}):
                self._faulty.add((*path, key))  # it says what is meant: no rule has to
            else:
                self._faulty.update((*path, name) for name in _blank_holders(node, key, value))
            hint = f'did you mean "{meant}"?' if meant else _hint(node, key, value, path, parents)
            self._unknown.append(((*self.at(*path), key), f"unknown field; {hint}"))
        for name, one in properties.items():
            if "default" in one and name not in taken:
                default = one["default"]
                is_scalar = not isinstance(default, dict)  # a valid one: a test sees to that
                taken[name] = (
                    default if is_scalar else self._take(one, default, (*path, name), above)
                )
        return taken

    def _note_rules(self, node: Node, value: Any, path: Where) -> None:
        for name in node.get("x-relay-rules", ()):
            self._rules.append((path, self._schema.rules[name], value))

    def _note_checks(self, node: Node, value: Any, path: Where) -> None:
        if "x-relay-check" in node:
            self._checks.append((path, value, self._schema.checks[node["x-relay-check"]]))
        elif "x-relay-duration" in node:
            self._checks.append((path, value, duration_check(**node["x-relay-duration"])))
        elif "x-relay-size" in node:
            self._checks.append((path, value, size_check(**node["x-relay-size"])))

    def _find_repeated(self, node: Node, entries: list[Any], path: Where) -> None:
        kind = node.get("x-kubernetes-list-type")
        if kind == "set":
            seen: set[str] = set()
            for index, one in enumerate(entries):
                if isinstance(one, str):
                    if one in seen:
                        self.fault(*path, index, message=f"{shown(one)} is listed twice")
                    seen.add(one)
        elif kind == "map":
            (key,) = node["x-kubernetes-list-map-keys"]
            taken: set[str] = set()
            for index, one in enumerate(entries):
                name = one.get(key) if isinstance(one, dict) else None
                if isinstance(name, str):
                    if name in taken:
                        message = f"{shown(name)} is already taken; {key}s must be unique"
                        self.fault(*path, index, key, message=message)
                    taken.add(name)

    def _meant(
        self, node: Node, word: str, value: dict[str, Any], path: Where, parents: tuple[Node, ...]
    ) -> str:
        """Return the absent field that a misspelt word stands for, or ""."""
        properties = node.get("properties", {})
        if word in node.get("x-relay-unknown", {}) or _is_misplaced(node, word, path, parents):
            return ""
        for name, one in properties.items():
            if name in value or (*path, name) in self._written or "x-relay-hidden" in one:
                continue
            if word in one.get("x-relay-also", ()) or is_misspelt(word, name):
                return str(name)
        return ""


def _hint(
    node: Node, unknown: str, value: dict[str, Any], path: Where, parents: tuple[Node, ...]
) -> str:
    """Return the suggestion for a field of ``value`` that does not exist."""
    known = [name for name, one in node["properties"].items() if "x-relay-hidden" not in one]
    return (
        node.get("x-relay-unknown", {}).get(unknown)
        or _above(unknown, path, parents)
        or nearest(unknown, known)
        or _below(node, unknown, value)
        or f"accepted here: {', '.join(sorted(known))}"
    )


def _is_misplaced(node: Node, word: str, path: Where, parents: tuple[Node, ...]) -> bool:
    """Return True if a field is known but in the wrong place."""
    return bool(_above(word, path, parents) or _below(node, word, {}))


def _above(word: str, path: Where, parents: tuple[Node, ...]) -> str:
    """Return where a field belongs that stands too deep, or ""."""
    own = next((step for step in reversed(path) if isinstance(step, str)), "")
    above = next((one for one in reversed(parents) if one["type"] == "object"), {})
    if own and word not in (own, "name") and word in above.get("properties", {}):
        return f"it belongs beside {own}, not below it"
    return ""


def _below(node: Node, word: str, value: dict[str, Any]) -> str:
    """Return where a field belongs that does not stand deep enough, or "".

    Of several places those count that ``value`` has already.
    """
    if word == "name":
        return ""
    holders = _holders(node, word)
    blank = _blank_holders(node, word, value)
    if blank:
        return f"it belongs below {blank[0]}: indent it deeper"
    if holders:
        return (
            f"it belongs below {' or '.join([one for one in holders if one in value] or holders)}"
        )
    for name, child in node.get("properties", {}).items():
        if word in child.get("items", {}).get("properties", {}):
            return f"it belongs into an entry of {name}"
    return ""


def _holders(node: Node, word: str) -> list[str]:
    """Return the fields of an object that have a field of this name."""
    properties: dict[str, Node] = node.get("properties", {})
    return [name for name, child in properties.items() if word in child.get("properties", {})]


def _blank_holders(node: Node, word: str, value: dict[str, Any]) -> list[str]:
    """Return those that are written without a value: their fields are not indented enough."""
    return [name for name in _holders(node, word) if name in value and value[name] is None]


def _is_any_faulty(faulty: frozenset[Where], path: Where, rule: Rule) -> bool:
    """Return True if a value at ``path``, or a part that the rule reads, has a fault."""
    if path in faulty:
        return True
    size = len(path)
    return any(
        len(one) == size + len(read)
        and one[:size] == path
        and all(want in ("*", step) for want, step in zip(read, one[size:], strict=True))
        for read in rule.reads
        for one in faulty
    )


def _leave_out(container: Any, path: Where) -> None:
    """Remove a place from a value; in a list, None replaces it."""
    for step in path[:-1]:
        if isinstance(container, list) and isinstance(step, int):
            container = container[step]
        elif isinstance(container, dict):
            container = container.get(step)
        else:
            return
    if not path:
        return
    last = path[-1]
    if isinstance(container, dict):
        container.pop(last, None)
    elif isinstance(container, list) and isinstance(last, int):
        container[last] = None
