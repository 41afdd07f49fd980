"""The selector of a scrape of a federation endpoint, as an ExportPolicy has it.

* The project's matcher, which the operator adds to every selector, is taken out: the relay enforces
  tenancy outside the selector. It stays if it names another project than the component's.
* Several ``match[]`` are one selector with ``or``: federation returns each series once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from relay.cli.import_vector.components import (
    Note,
    VectorComponent,
    text_of,
    unresolved,
    without_escapes,
)
from relay.runtime.errors import SelectorError
from relay.selector.evaluate import render_selector
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.metricsql.parser import parse_query, parse_selector

PROJECT_LABEL: Final = "resourcemanager_datumapis_com_project_name"
SELECTORS_MAX: Final = 1_000

_Group = tuple[Matcher, ...]


def federation_selector(
    project: str, component: VectorComponent, query: object, notes: list[Note]
) -> str | None:
    """Return the selector of a source's ``query``; None, with a note, if there is none."""
    given = query if isinstance(query, Mapping) else {}
    notes += [
        Note(component.at(f"query.{key}"), "is a parameter of the scraped endpoint alone")
        for key in sorted(given.keys() - {"match[]"})
    ]
    place = component.at("query.match[]")
    groups: list[_Group] = []
    try:
        for text in _texts(given):
            if waiting := unresolved(text):
                notes.append(Note(place, waiting))
            groups += [
                _without_project(project, group, place, notes)
                for group in _parsed(text).groups or ((),)
            ]
        return "{}" if not all(groups) else _joined(groups)
    except ValueError as error:
        notes.append(Note(place, f"{error}; the source is not carried over"))
        return None


def _texts(query: Mapping[str, object]) -> Iterator[str]:
    """Yield the selectors; raise ValueError if there are none, or other values."""
    if query.get("match[]") is None:
        raise ValueError("is absent: only scrapes of a federation endpoint become selectors")
    given = query["match[]"]
    values = given if isinstance(given, list) else [given]
    if not 1 <= len(values) <= SELECTORS_MAX:
        raise ValueError(f"must have 1 to {SELECTORS_MAX} selectors, not {len(values)}")
    for value in values:
        text = text_of(value)
        if text is None:
            raise ValueError("must be a selector, as text")
        yield text


def _parsed(text: str) -> Selector:
    try:
        return parse_query(without_escapes(text))
    except SelectorError as error:
        raise ValueError(str(error)) from error


def _without_project(project: str, group: _Group, place: str, notes: list[Note]) -> _Group:
    """Return a group without the project's matcher; note if there is none, or another's."""
    if not project:
        return group
    own = Matcher(PROJECT_LABEL, "=", project)
    if own not in group:
        message = f"is not limited to project {project}; the relay limits it to that"
        notes.append(Note(place, message))
    return tuple(matcher for matcher in group if matcher != own)


def _joined(groups: Sequence[_Group]) -> str:
    """Return a selector of these groups, none of them empty; raise ValueError if it is too long."""
    unique = list(dict.fromkeys(groups))
    names = {tuple(m for m in group if m.label == NAME and m.op == "=") for group in unique}
    if len(names) > 1:
        # MetricsQL lends a group's metric name to all others, but not its pattern.
        unique = [tuple(map(_name_as_pattern, group)) for group in unique]
    text = render_selector(Selector(tuple(unique)))
    try:
        read = parse_selector(text)
    except SelectorError as error:
        raise ValueError(f"is not accepted as one selector: {error}") from error
    assert read.groups == tuple(unique), text
    return text


def _name_as_pattern(matcher: Matcher) -> Matcher:
    if matcher.label != NAME or matcher.op != "=":
        return matcher
    return Matcher(NAME, "=~", re.escape(matcher.value))
