"""LogQL's stream selectors and line filters, and what is refused with its name."""

from __future__ import annotations

import pytest

from relay.runtime.errors import SelectorError
from relay.selector.records.logql import EXAMPLE, parse_selector
from relay.selector.records.selection import AttributeMatcher, LineFilter, LineSelector


@pytest.mark.parametrize("text", ["", "  ", "{}", "{ }", "# nothing\n{}"])
def test_the_empty_selector_is_all(text: str) -> None:
    assert parse_selector(text) == LineSelector()


def test_matchers_groups_and_filters() -> None:
    parsed = parse_selector(
        '{service.name="svc-1", "http.route"=~"/a.+" or level!="x",} |= "a" or "b" !~ `c\\d`'
    )
    assert parsed.groups == (
        (
            AttributeMatcher("service_name", "=", "svc-1"),
            AttributeMatcher("http.route", "=~", "/a.+", is_exact=True),
        ),
        (AttributeMatcher("level", "!=", "x"),),
    )
    assert parsed.lines == (LineFilter("|=", ("a", "b")), LineFilter("!~", ("c\\d",)))


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ('{a="b"} | json', "the pipeline stage | json", 8),
        ('{a="b"} |= "x" | line_format "{{.a}}"', "the pipeline stage | line_format", 15),
        ('{a="b"} | logfmt', "the pipeline stage | logfmt", 8),
        ('{a="b"} | level="error"', "the label filter | level", 8),
        ('{a="b"} |> "<_>"', "the pipeline stage |>", 8),
        ('{a="b"} |= ip("1.2.3.4")', "ip(…) is not supported", 11),
        ('rate({a="b"}[5m])', "rate(…) is a query of metrics", 0),
        ('sum by (a) (rate({a="b"}[1m]))', "sum(…) is a query of metrics", 0),
        ('{a="b"}[5m]', "a range belongs to a query of metrics", 7),
        ('{a=~"("}', "invalid regular expression", 5),
        ('{a="b"} |~ "x)"', "invalid regular expression", 13),
        ('{a="b"', "never closed", 0),
        ("{a}", "=, !=, =~ or !~ is wanted", 2),
        ('{a="b}', "the string that opens here is never closed", 3),
        ("{a='b'}", "a text in quotes is wanted", 3),
        ('{""="b"}', "must not be empty", 1),
        ('{a="b" or }', 'missing behind "or"', 10),
        ('{a="b" c="d"}', '"," or "or" or "}" is wanted', 7),
        ("up", '"{" is wanted', 0),
    ],
)
def test_what_is_no_selection_is_refused_with_its_place(
    text: str, message: str, offset: int
) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert message in caught.value.message
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("gateway", 'write a selector such as {service_name="gateway"}'),
        ("service_name=gateway", 'write a selector such as {service_name="gateway"}'),
        ("{service_name=gateway}", 'write "gateway", in double quotes'),
        ("{service_name='gate way'}", 'write "gate way", in double quotes'),
        ("{status=500}", 'write "500", in double quotes'),
        ('{a="b"} |= timeout', 'write "timeout", in double quotes'),
        ("{a=\"b\"} |~ 'time out'", 'write "time out", in double quotes'),
        ('{a="b" and c="d"}', 'write "," between conditions that must all hold'),
        ('{a="b" AND c="d"}', 'write "," between conditions that must all hold'),
        ('{ a = "b" && c = "d" }', 'write "," between conditions that must all hold'),
        ('{a="b" || c="d"}', 'write "or" between alternatives'),
        ('{a="b" andy="d"}', ""),
        ("{a=}", ""),
        ("{a='\"'}", ""),
    ],
)
def test_another_spelling_is_told_this_ones(text: str, hint: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert caught.value.hint == hint


def test_the_example_is_a_selector() -> None:
    assert parse_selector(EXAMPLE).groups


def test_spans_have_no_lines() -> None:
    with pytest.raises(SelectorError, match="a span has no lines"):
        parse_selector('{a="b"} |= "x"', has_lines=False)
