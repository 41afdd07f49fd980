"""Find selectors that match only part of a classic histogram, and name the missing series.

A classic histogram is one metric in OTLP but many series in Prometheus: a selector of
``foo_bucket`` without ``foo_count`` exports the buckets as single numbers, which is rarely
intended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from relay.selector.evaluate import compile_selector
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.regex import compile_regex

_BUCKET = "_bucket"
_BOUNDS = ("le", "vmrange")
_WARNINGS_MAX = 10


_MEMBER_SUFFIXES = ("_bucket", "_count", "_sum", "_gcount", "_gsum")
_MEMBER_LABELS = (*_BOUNDS, "quantile")
_TIMED = re.compile(
    r"[a-zA-Z_:][\w:]*_((duration|latency)_(milli|micro)?seconds|(request|response)_size_bytes)"
)
"""Typical names of histograms and summaries."""
_TIMED_GAUGES = frozenset(("scrape_duration_seconds", "probe_duration_seconds"))


class Matches(Protocol):
    """Anything that can be evaluated against a series."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether a series with these labels is selected."""
        ...


def missing_members(selector: Matches, labels: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names of a histogram's series that ``selector`` does not match.

    ``labels`` are those of one of its buckets, else the result is None. It is () if the selector
    matches the whole histogram.
    """
    name = labels.get(NAME, "")
    if not name.endswith(_BUCKET) or not any(bound in labels for bound in _BOUNDS):
        return None
    family = name.removesuffix(_BUCKET)
    base = {key: value for key, value in labels.items() if key not in _BOUNDS}
    return tuple(_missing(selector, family, base))


def possible_families(name: str) -> frozenset[str]:
    """Return the metric families a series of this name may belong to; one is the name itself."""
    stems = [name.removesuffix(suffix) for suffix in _MEMBER_SUFFIXES]
    return frozenset((name, *filter(None, stems)))


def asked_for_family(selector: Matches, labels: Mapping[str, str]) -> str:
    """Return the family that ``selector`` matches by name but whose component series it does not.

    ``labels`` are those of the component series. Return "" if there is no such family.
    """
    name = labels.get(NAME, "")
    base = {key: value for key, value in labels.items() if key not in _MEMBER_LABELS}
    for suffix in _MEMBER_SUFFIXES:
        family = name.removesuffix(suffix)
        if family not in (name, "") and selector.matches({**base, NAME: family}):
            return family
    return ""


def whole_names(selector: Selector) -> Iterator[str]:
    """Return warnings for selectors that name a histogram by its OTLP name.

    Its series have other names, so that the selector matches none of them.
    """
    groups = tuple(
        tuple(matcher for matcher in group if matcher.label == NAME) for group in selector.groups
    )
    reduced = compile_selector(Selector(groups))
    names = dict.fromkeys(name for group in groups for matcher in group for name in _names(matcher))
    for name in list(names)[:_WARNINGS_MAX]:
        if not _TIMED.fullmatch(name) or name in _TIMED_GAUGES:
            continue
        if reduced.matches({NAME: name}) and not reduced.matches({NAME: name + _BUCKET}):
            yield (
                f"{name}: the series of a histogram or summary of this name have other names; "
                f'write {{__name__=~"{name}(_bucket|_count|_sum)?"}} for the whole'
            )


def split_histograms(selector: Selector) -> Iterator[str]:
    """Return warnings for histograms of which only the buckets are selected by name.

    Only literal names are considered, and only the conditions on name and bound: the component
    series agree in all other labels.
    """
    groups = tuple(
        tuple(matcher for matcher in group if matcher.label in (NAME, *_BOUNDS))
        for group in selector.groups
    )
    reduced = compile_selector(Selector(groups))
    families = {
        name.removesuffix(_BUCKET): None
        for group in groups
        for matcher in group
        for name in _names(matcher)
        if name.endswith(_BUCKET) and name != _BUCKET
    }
    for family in list(families)[:_WARNINGS_MAX]:
        missing = list(_missing(reduced, family, {}))
        if missing:
            yield (
                f"{family}{_BUCKET} without {' and '.join(missing)}: the histogram is exported as "
                f'single numbers; write {{__name__=~"{family}_(bucket|count|sum)"}} for the whole'
            )


def _missing(selector: Matches, family: str, base: Mapping[str, str]) -> Iterator[str]:
    for member in (f"{family}_count", f"{family}_sum"):
        if not selector.matches({**base, NAME: member}):
            yield member
    if not selector.matches({**base, NAME: family + _BUCKET, "le": "+Inf"}):
        yield f'{family}{_BUCKET}{{le="+Inf"}}'


def _names(matcher: Matcher) -> Iterator[str]:
    if matcher.label == NAME and matcher.op == "=":
        yield matcher.value
    elif matcher.label == NAME and matcher.op == "=~":
        yield from sorted(compile_regex(matcher.value).values or ())
