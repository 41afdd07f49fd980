"""The literal fast paths say what the engine says, for patterns and values of a small alphabet."""

from __future__ import annotations

import re2
from hypothesis import example, given
from hypothesis import strategies as st

from relay.runtime.errors import SelectorError
from relay.selector.index import regex_literals
from relay.selector.regex import compile_regex, options, or_values
from tests.kit.examples import examples

pieces = st.sampled_from(
    [
        r"a",
        r"b",
        r"ab",
        r"é",
        r".*",
        r".+",
        r".*?",
        r".",
        r"?",
        r"??",
        r"|",
        r"(",
        r"(?:",
        r")",
        r"[ab]",
        r"[a-c]",
        r"[^a]",
        r"^",
        r"$",
        r"\.",
        r"\n",
        r"*",
        r"+",
        r"{2}",
        r"(?i)",
        r"-",
        r"\Q",
        r"\E",
        r"\b",
    ]
) | st.just("\n")
raw_patterns = st.lists(pieces, max_size=8).map("".join)


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map("|".join),
        st.tuples(st.sampled_from(["(", "(?:"]), inner, st.sampled_from([")", ")?"])).map("".join),
    )


regular = st.recursive(
    st.sampled_from(["a", "b", "ab", ".*", ".+", "[ab]", "", "a?", "\\."]), _nested, max_leaves=8
)
values = st.text(alphabet="abAé.\n-", max_size=6)


@examples(400)
@given(raw_patterns | regular, st.lists(values, max_size=8))
@example(".*a.+", ["a", "aa", "ba", "ab", ""])
@example(".+a.+", ["a", "aa", "aaa", "bab"])
@example("a.+a", ["aa", "aba", "a"])
def test_fast_paths_equal_the_engine(pattern: str, texts: list[str]) -> None:
    try:
        regex = compile_regex(pattern)
    except SelectorError:
        return
    engine = re2.compile(pattern, options())
    known = or_values(pattern)
    for text in [*texts, "", "a", "b", "ab", "aa", "aab"]:
        expected = engine.fullmatch(text) is not None
        assert regex.matches(text) is expected
        assert regex.matches(text) is expected  # remembered
        if known is not None:
            assert (text in known) is expected


@given(regular)
def test_the_subset_is_understood(pattern: str) -> None:
    found = regex_literals.shapes(pattern)
    if found is not None:
        assert 1 <= len(found) <= regex_literals.SHAPES_MAX
        assert all("" not in shape for shape in found)
