"""One click narrows a selector by a metric."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.selector.metricsql.parser import parse_selector
from relay.ui.authoring.narrowing import Narrowing, narrowed
from relay.ui.views.texts import visible


@pytest.mark.parametrize(
    ("selector", "only", "without"),
    [
        ("{}", "m", '{__name__!="m"}'),
        ("", "m", '{__name__!="m"}'),
        ('{code="5}"}', 'm{code="5}"}', '{code="5}",__name__!="m"}'),
        ('{code="5",}', 'm{code="5"}', '{code="5",__name__!="m"}'),
        ('{__name__!="n"}', "m", '{__name__!="n",__name__!="m"}'),
        ('{__name__=~"m|n", code!="5"}', 'm{code!="5"}', None),
        ("m", "", ""),
        ('m{code="5"}', "", ""),
        ('{a="b" or c="d"}', "", ""),
        ("m or n", "", ""),
        ("{a='b'}", "", ""),
        ("{", "", ""),
        ('{a="\u202e"}', "", ""),
    ],
)
def test_selectors(selector: str, only: str, without: str | None) -> None:
    found = narrowed(selector, "m")
    assert found.only == only
    if without is not None:
        assert found.without == without


@given(
    st.sampled_from(["", "{}", '{a="b"}', '{a=~"x|\\"",b!=""}', '{__name__=~"h.*",a="1"}']),
    st.text(min_size=1, max_size=8),
)
def test_what_is_offered_can_be_read(selector: str, metric: str) -> None:
    found = narrowed(selector, metric)
    assert (found == Narrowing()) == (visible(metric) != metric)
    for text in filter(None, (found.only, found.without)):
        parse_selector(text)
