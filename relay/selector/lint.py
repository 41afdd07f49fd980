"""Warn of selectors that are valid but probably not intended.

* A warning says what the selector does, and what to write for the probable intention.
* A group is reported as never matching only if that is certain: a label must equal two values, or
  every value that one condition allows is refused by another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from relay.selector.evaluate import matcher_test, render
from relay.selector.index.regex_literals import Mark, Shape, shapes
from relay.selector.matchers import NAME, Matcher, Remark, Selector
from relay.selector.quoting import quote_name, quote_string
from relay.selector.regex import compile_regex

WARNINGS_MAX: Final = 10

_VARIABLE: Final = re.compile(r"\$\{?[A-Za-z_]\w*\}?|\[\[\w+\]\]")
"""A dashboard variable, as Grafana writes it."""
# A quantifier after a character that is rarely repeated: probably a shell's wildcard.
_GLOB: Final = re.compile(r"(?<![\\.)\]}*+?])(?P<last>[A-Za-z0-9_:/-])\*")
_PATTERN: Final = re.compile(r"\.[*+]|\||\*$|^\*|\[[^\]]*\]|\\[.dw]")
"""Regular-expression syntax in a value that is compared literally."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_:/ -]+")


def remarks(selector: Selector) -> tuple[Remark, ...]:
    """Return at most :data:`WARNINGS_MAX` warnings, one for each condition."""
    found: dict[Remark, None] = {}
    # MetricsQL lends the name of a group, but not its pattern, to groups without a name: with "or",
    # a plain =~ is the way to name one metric.
    is_single = len(selector.groups) == 1
    for group in selector.groups:
        for matcher in group:
            remark = _matcher_remark(matcher, is_single=is_single)
            if remark is not None:
                found[remark] = None
        never = _contradiction(group)
        if never is not None:
            found[never] = None
    return tuple(found)[:WARNINGS_MAX]


def _matcher_remark(matcher: Matcher, *, is_single: bool) -> Remark | None:
    value, label = matcher.value, quote_name(matcher.label)
    variable = _VARIABLE.search(value)
    if variable is not None:
        return Remark(
            f"{variable[0]} looks like a variable of a dashboard, and nothing replaces it here: "
            f"write the value, or leave the condition out",
            matcher.offset,
        )
    if not _is_utf8(value):
        return Remark(f"{render(matcher)}: no label holds what is not UTF-8 text", matcher.offset)
    if matcher.op in ("=~", "!~"):
        return _pattern_remark(matcher, label, is_single=is_single)
    if not _PATTERN.search(value):
        return None
    op = "=~" if matcher.op == "=" else "!~"
    return Remark(
        f"{render(matcher)} compares the value as it stands; for a pattern write "
        f"{label}{op}{quote_string(_as_pattern(value))}",
        matcher.offset,
    )


def _pattern_remark(matcher: Matcher, label: str, *, is_single: bool) -> Remark | None:
    value = matcher.value
    glob = _GLOB.search(value)
    if glob is not None:
        pattern = quote_string(_GLOB.sub(r"\g<last>.*", value))
        meant = f"{label}{matcher.op}{pattern}"
        return Remark(
            f'{render(matcher)}: "{glob["last"]}*" means any number of "{glob["last"]}"; for '
            f"anything write .*, as in {meant}",
            matcher.offset,
        )
    if is_single and matcher.label == NAME and matcher.op == "=~" and _PLAIN.fullmatch(value):
        meant = f"{label}=~{quote_string(f'.*{value}.*')}"
        return Remark(
            f"{render(matcher)} matches only {quote_string(value)} itself, as = does; for what "
            f"contains it write {meant}",
            matcher.offset,
        )
    return None


def _is_utf8(value: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _as_pattern(value: str) -> str:
    """Return a value with a shell's wildcards, or a pattern, as a regular expression."""
    return re.sub(r"(?<![.)\]])\*", ".*", value)


# -- contradictions -------------------------------------------------------------------------------


def _contradiction(group: Sequence[Matcher]) -> Remark | None:
    by_label: dict[str, list[Matcher]] = {}
    for matcher in group:
        by_label.setdefault(matcher.label, []).append(matcher)
    for label, matchers in by_label.items():
        pair = _excluding(matchers)
        if pair is None:
            continue
        conditions = " and ".join(render(matcher) for matcher in pair)
        never = "a series has one name" if label == NAME else "a label has one value"
        if len(pair) == 1:
            return Remark(f"{conditions} never matches: every value is refused", pair[0].offset)
        return Remark(
            f"{conditions} never match together: {never}{_alternatives(label, pair)}",
            pair[-1].offset,
        )
    return None


def _alternatives(label: str, pair: Sequence[Matcher]) -> str:
    """Return how to write that either of two values is accepted."""
    if not all(matcher.op == "=" and matcher.value for matcher in pair):
        return ""
    either = "|".join(re.escape(matcher.value) for matcher in pair)
    return f"; for either write {quote_name(label)}=~{quote_string(either)}"


def _excluding(matchers: Sequence[Matcher]) -> tuple[Matcher, ...] | None:
    """Return one or two conditions on one label that no value meets; None if not certain."""
    for number, one in enumerate(matchers):
        if one.op == "!~" and _accepts_all(one):
            return (one,)
        for other in matchers[number + 1 :]:
            if _exclude(one, other) or _exclude(other, one):
                return one, other
    candidates = next((found for one in matchers if (found := _values(one)) is not None), None)
    if candidates is None:
        return None
    tests = [matcher_test(matcher) for matcher in matchers]
    if any(all(test(value) for test in tests) for value in candidates):
        return None
    return tuple(matchers)


def _exclude(one: Matcher, other: Matcher) -> bool:
    """Return whether the values that ``one`` allows all fail ``other``; False if not certain."""
    values = _values(one)
    if values is not None:
        test = matcher_test(other)
        return not any(map(test, values))
    if one.op == "=~" and other.op == "=~":
        return _are_apart(shapes(one.value), shapes(other.value))
    # ``one`` refuses all but "", and ``other`` refuses "".
    return one.op == "!~" and shapes(one.value) == ((Mark.SOME,),) and not matcher_test(other)("")


def _values(matcher: Matcher) -> frozenset[str] | None:
    """Return all values that a condition allows; None if they are many or unknown."""
    if matcher.op == "=":
        return frozenset((matcher.value,))
    return compile_regex(matcher.value).values if matcher.op == "=~" else None


def _accepts_all(matcher: Matcher) -> bool:
    return shapes(matcher.value) == ((Mark.ANY,),)


def _are_apart(left: tuple[Shape, ...] | None, right: tuple[Shape, ...] | None) -> bool:
    """Return whether two patterns differ in how every value begins or ends."""
    if left is None or right is None:
        return False
    return all(
        _ends_differ(_edge(one, 0), _edge(other, 0), str.startswith)
        or _ends_differ(_edge(one, -1), _edge(other, -1), str.endswith)
        for one in left
        for other in right
    )


def _edge(shape: Shape, index: int) -> str:
    edge = shape[index] if shape else ""
    return edge if isinstance(edge, str) else ""


def _ends_differ(one: str, other: str, test: object) -> bool:
    assert callable(test), "a method of str"
    return bool(one and other) and not test(one, other) and not test(other, one)


def overlaps(selectors: Sequence[tuple[str, Selector | None]]) -> Iterator[tuple[int, str]]:
    """Yield (index, warning) for each named selector that selects the same as an earlier one.

    None stands for a selection of another kind, which is skipped.
    """
    seen: dict[object, str] = {}
    for index, (name, selector) in enumerate(selectors):
        if selector is None:
            continue
        groups = frozenset(frozenset(group) for group in selector.groups)
        everything = not groups or frozenset() in groups
        key = None if everything else groups
        first = seen.setdefault(key, name)
        if first == name:
            continue
        what = "everything" if everything else "the same"
        yield index, f"takes {what}, as source {first} does: one of them is enough"
