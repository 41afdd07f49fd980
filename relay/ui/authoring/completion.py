"""Complete a selector while it is written: which word, and what may stand there. Pure.

Candidates come from previews: each names some series of the customer, and their labels are read; of
logs and traces it names resources, and their attributes are read. For values more previews follow
that exclude those known, so that one frequent value does not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from relay.control.explain import parse_series
from relay.control.explain_records import parse_attributes
from relay.runtime.errors import SelectorError
from relay.selector.matchers import NAME
from relay.selector.quoting import quote_string
from relay.selector.records.selection import plain_name

Expecting = Literal["name", "label", "value"]
ROUNDS_MAX: Final = 3
"""Previews of one completion of a value."""
OPTIONS_MAX: Final = 20
_CHARS_MAX: Final = 4096
# A name is tried from its start alone, and a string to its end or the text's: else a long one is
# read once for each of its characters.
_WORD: Final = re.compile(r"(?<![A-Za-z0-9_:.])[A-Za-z_:][A-Za-z0-9_:.]*\Z")
_VALUE: Final = re.compile(
    r'(?<![A-Za-z0-9_.])([A-Za-z_][A-Za-z0-9_.]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)\Z'
)
_BEFORE_LABEL: Final = re.compile(r"(?:[{,]|\bor\b)\s*\Z")
_METRIC: Final = re.compile(r"(?:(?<![A-Za-z0-9_:.])([A-Za-z_:][A-Za-z0-9_:.]*)\s*)?\{[^{}]*\Z")
_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*(?:(")|\\?\Z)')
_SPECIAL: Final = re.compile(r"([\\.+*?()|\[\]{}^$])")


@dataclass(frozen=True, slots=True)
class CompletionPlace:
    """The word that is being written, from ``start`` to ``end``, and what is expected there.

    ``metric`` is the name before the braces, "" without one; ``label`` and ``operator`` are those
    of a value. ``is_end``: nothing follows.
    """

    expecting: Expecting
    start: int
    end: int
    word: str
    metric: str = ""
    label: str = ""
    operator: str = ""
    is_end: bool = False


def place_of(text: str, at: int) -> CompletionPlace | None:
    """Return the place of a cursor, None where nothing is expected."""
    before = text[:at][-_CHARS_MAX:]
    shift, is_end = at - len(before), not text[at:].strip()
    value = _VALUE.search(before)
    if value is not None and _is_open(before):
        metric = _metric_of(before[: value.start()])
        return CompletionPlace(
            "value", shift + value.start(3), at, value[3], metric or "", value[1], value[2], is_end
        )
    if _is_open(before):
        return None
    found = _WORD.search(before)
    start = found.start() if found is not None else len(before)
    word, head = before[start:], before[:start]
    metric = _metric_of(head)
    if metric is None:
        if head.strip():
            return None
        return CompletionPlace("name", shift + start, at, word)
    if _BEFORE_LABEL.search(_STRINGS.sub('""', head)):
        return CompletionPlace("label", shift + start, at, word, metric, is_end=is_end)
    return None


def _is_open(before: str) -> bool:
    """Return True where a text ends within a string."""
    return any(found[1] is None for found in _STRINGS.finditer(before))


def _metric_of(head: str) -> str | None:
    """Return the name before open braces, "" without one; None where no braces are open."""
    found = _METRIC.search(_STRINGS.sub('""', head))
    return None if found is None else found[1] or ""


def selector_for(place: CompletionPlace, known: Iterable[str] = ()) -> str:
    """Return the selector of the series whose names, labels or values may stand at a place."""
    name = f"{NAME}={quote_string(place.metric)}" if place.metric else ""
    if place.expecting == "name":
        pattern = f"(?i).*{_literally(place.word)}.*"
        return f"{{{NAME}=~{quote_string(pattern)}}}"
    if place.expecting == "label":
        return f"{{{name}}}"
    wanted = f"{place.label}=~{quote_string(f'{_literally(_unescaped(place.word))}.+')}"
    others = "|".join(map(_literally, known))
    excluded = f"{place.label}!~{quote_string(others)}" if others else ""
    return "{" + ",".join(part for part in (name, wanted, excluded) if part) + "}"


def _literally(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _unescaped(word: str) -> str:
    return word.replace('\\"', '"').replace("\\\\", "\\")


def options_of(
    place: CompletionPlace, series: Iterable[str], metrics: Iterable[str] = ()
) -> list[str]:
    """Return what may stand at a place, by the series and metrics of a preview, in order."""
    found: dict[str, None] = dict.fromkeys(metrics) if place.expecting == "name" else {}
    for text in series:
        try:
            labels: Mapping[str, str] = parse_series(text)
        except SelectorError:
            continue  # shown cut off
        if place.expecting == "name":
            found[labels.get(NAME, "")] = None
        elif place.expecting == "label":
            found.update(dict.fromkeys(name for name in labels if name != NAME))
        else:
            found[labels.get(place.label, "")] = None
    word = _unescaped(place.word).lower()
    fitting = [one for one in found if one and word in one.lower()]
    fitting.sort(key=lambda one: (not one.lower().startswith(word), one))
    return fitting[:OPTIONS_MAX]


def attribute_options(place: CompletionPlace, resources: Iterable[str]) -> list[str]:
    """Return what may stand at a place, by the resources of a preview, in order."""
    found: dict[str, None] = {}
    for text in resources:
        try:
            attributes = parse_attributes(text)
        except SelectorError:
            continue  # shown cut off
        if place.expecting == "label":
            found.update(dict.fromkeys(name for name, _ in attributes))
        else:
            own = plain_name(place.label)
            found.update(
                dict.fromkeys(text for name, text in attributes if plain_name(name) == own)
            )
    word = _unescaped(place.word).lower()
    fitting = [one for one in found if one and plain_name(word) in plain_name(one.lower())]
    fitting.sort(key=lambda one: (not one.lower().startswith(word), one))
    return fitting[:OPTIONS_MAX]


def inserted(place: CompletionPlace, option: str) -> str:
    """Return the text that an option puts in the place of the word.

    At the end of the text also what has to follow: the quote that begins a value, or what ends it.
    After ``=~`` more alternatives may come, so it stays open.
    """
    if place.expecting == "value":
        end = '"}' if place.is_end and place.operator in ("=", "!=") else ""
        return f"{quote_string(option)[1:-1]}{end}"
    is_quoted = place.expecting == "label" and not _WORD.fullmatch(option)
    name = quote_string(option) if is_quoted else option
    return f'{name}="' if place.expecting == "label" and place.is_end else name
