"""Any selector survives writing and reading; any text is read or refused, never more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.runtime.errors import SelectorError
from relay.selector.evaluate import compile_selector, render_selector
from relay.selector.matchers import NAME, Matcher, Op, Selector
from relay.selector.metricsql.parser import parse_query, parse_selector

# What a string can spell: any bytes, as text where they are UTF-8.
values = st.text(max_size=8) | st.binary(max_size=4).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
labels = st.sampled_from([NAME, "a", "or", "with", "inf", "foo-bar"]) | st.text(
    min_size=1, max_size=6
)
equality: st.SearchStrategy[Op] = st.sampled_from(["=", "!="])
pattern: st.SearchStrategy[Op] = st.sampled_from(["=~", "!~"])
matchers = st.builds(Matcher, labels, equality, values) | st.builds(
    Matcher, labels, pattern, st.sampled_from(["", "a|b", "x.*", r"\d+\.", "[^\n]", "“”"])
)
groups = (
    st.lists(matchers, min_size=1, max_size=4)
    .map(tuple)
    .filter(lambda group: sum((m.label, m.op) == (NAME, "=") for m in group) <= 1)
)


def _as_parsed(written: list[tuple[Matcher, ...]]) -> tuple[tuple[Matcher, ...], ...]:
    """What MetricsQL makes of groups: the name first, no duplicates, a common name everywhere."""
    ordered = [
        tuple(dict.fromkeys(sorted(group, key=lambda m: (m.label, m.op) != (NAME, "="))))
        for group in written
    ]
    names = {m.value for group in ordered for m in group if (m.label, m.op) == (NAME, "=")} - {""}
    if len(names) != 1:
        return tuple(ordered)
    common = Matcher(NAME, "=", names.pop())
    return tuple(
        group if any(m.label == NAME for m in group) else (common, *group) for group in ordered
    )


@given(st.lists(groups, max_size=4))
def test_what_is_rendered_parses_back(written: list[tuple[Matcher, ...]]) -> None:
    parsed = parse_selector(render_selector(Selector(groups=tuple(written))))
    assert parsed.groups == _as_parsed(written)
    assert parsed.warnings == ()


tokens = st.sampled_from(
    [
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ",",
        "=",
        "=~",
        "!=",
        "!~",
        "==",
        "+",
        "-",
        ">",
        "@",
        "or",
        "and",
        "a",
        "x",
        "foo",
        "WITH",
        '(x={a="b"})',
        '(v="s")',
        "v",
        "f(v)=",
        '"b"',
        "'c'",
        "`d`",
        "“e”",
        "‘f’",
        '"foo”',
        '"\\d"',
        '""',
        "5",
        "5m",
        ".5",
        "[5m]",
        "offset",
        "by",
        "inf",
        "#",
        "\\",
        "\\x41",
        "|",
        "$__interval",
        "~",
        "é",
        ".*",
        "[",
    ]
) | st.sampled_from([" ", "\u00a0", "\n", "#c\n", '{a="b"}', 'a="b"', " or ", 'a=~"x|"'])
soup = st.lists(tokens, max_size=25).map("".join)


def _try(text: str) -> tuple[Selector, SelectorError | None]:
    try:
        return parse_query(text), None
    except SelectorError as error:
        return Selector(groups=()), error


@given(soup | st.text(max_size=40) | st.text(alphabet="{}()\"'`\\=~!,+ao“”", max_size=40))
def test_any_text_is_a_selector_or_a_selector_error(text: str) -> None:
    selector, error = _try(text)
    if error is not None:
        assert 0 <= error.offset <= len(text)
        assert str(error)
        assert error.caret().endswith("^")
    elif all(selector.groups):  # an empty group cannot be written, only come from a template
        compile_selector(selector).matches({NAME: "foo", "a": "b"})
        assert parse_query(render_selector(selector)).groups == selector.groups
