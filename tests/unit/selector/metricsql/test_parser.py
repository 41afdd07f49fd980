"""What the parser tells people: hints, places, warnings; and what only our own rules decide."""

from __future__ import annotations

import pytest

from relay.runtime.errors import SelectorError
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.metricsql.parser import (
    NESTING_MAX,
    QUERY_BYTES_MAX,
    parse_query,
    parse_selector,
)

SEED = (
    "{service_name=“networking.datumapis.com”,"
    ' resource_kind="Gateway", __name__=~”network_bytes_.*”}\n'
)


def fault(text: str) -> SelectorError:
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    return caught.value


def values(text: str) -> list[str]:
    return [matcher.value for group in parse_selector(text).groups for matcher in group]


class TestEmpty:
    @pytest.mark.parametrize("text", ["", "  \n\t", "{}", "{ }"])
    def test_query_selects_everything(self, text: str) -> None:
        assert parse_query(text) == Selector(groups=())

    @pytest.mark.parametrize("text", ["# {a}", " # a\n # b\n", "\n#"])
    def test_a_comment_alone_is_no_query(self, text: str) -> None:
        with pytest.raises(SelectorError, match="only a comment") as caught:
            parse_query(text)
        assert caught.value.offset == text.index("#")

    @pytest.mark.parametrize("text", ["", " ", "# nothing"])
    def test_selector_refuses(self, text: str) -> None:
        assert "{}" in fault(text).hint

    def test_query_is_otherwise_a_selector(self) -> None:
        assert parse_query(' # x\nfoo{a="b"}') == parse_selector('foo{a="b"}')


class TestTypographicQuotes:
    def test_the_proposals_example(self) -> None:
        selector = parse_query(SEED)
        assert selector.groups == (
            (
                Matcher("service_name", "=", "networking.datumapis.com"),
                Matcher("resource_kind", "=", "Gateway"),
                Matcher(NAME, "=~", "network_bytes_.*"),
            ),
        )
        first, second = selector.warnings
        assert "1:15 (offset 14)" in first
        assert "“networking.datumapis.com”" in first
        assert "(offset 77)" in second

    def test_line_and_column_count_from_one(self) -> None:
        (warning,) = parse_selector("{\n  a=“b”}").warnings
        assert "2:5 (offset 6)" in warning

    @pytest.mark.parametrize(
        "text", ["{a=“b”}", "{a=”b“}", '{a=“b"}', '{a="b”}', "{a=‘b’}", "{a='b’}", "{“a”=‘b'}"]
    )
    def test_any_pairing(self, text: str) -> None:
        selector = parse_selector(text)
        assert selector.groups == ((Matcher("a", "=", "b"),),)
        assert selector.warnings

    def test_valid_text_keeps_its_meaning(self) -> None:
        selector = parse_selector('{a="x”y“z", b="‘"}')
        assert selector.warnings == ()
        assert values('{a="x”y“z", b="‘"}') == ["x”y“z", "‘"]

    def test_mixed_pairs_one_after_the_other(self) -> None:
        assert values('{a="b”, c="d"}') == ["b", "d"]

    def test_the_error_of_a_faulty_text_is_that_of_the_strict_reading(self) -> None:
        assert fault('{a="b”, c}').offset == 3

    def test_warnings_are_bounded(self) -> None:
        text = "{" + ",".join(f"a{n}=“b”" for n in range(50)) + "}"
        warnings = parse_selector(text).warnings
        assert len(warnings) == 11
        assert warnings[-1].endswith("40 more strings")

    def test_long_strings_are_cut_in_warnings(self) -> None:
        (warning,) = parse_selector("{a=“" + "x" * 9_000 + "”}").warnings
        assert len(warning) < 250


class TestNoSelectors:
    @pytest.mark.parametrize(
        ("text", "offset", "what"),
        [
            ("rate(x[5m])", 0, "function call rate"),
            ("a > 5", 2, "binary operation >"),
            ("foo or bar", 4, "binary operation or"),
            ("foo[5m]", 3, "range"),
            ("foo offset 5m", 4, "offset"),
            ("foo @ 100", 4, "@ modifier"),
            ("sum by (a) (foo)", 4, "aggregation"),
            ("-foo", 0, "negation"),
            ("5", 0, "number 5"),
            ("1e3", 0, "number 1e3"),
            ("NaN", 0, "number NaN"),
            ('"foo"', 0, "a string"),
            ("(foo, bar)", 0, "list of 2"),
            ("WITH (x=5m) x", 8, "number 5m"),
            ("foo limit 5", 4, "modifier limit"),
            ("ttf(foo)", 0, "template ttf"),
        ],
    )
    def test_are_named(self, text: str, offset: int, what: str) -> None:
        error = fault(text)
        assert what in error.message
        assert error.offset == offset
        assert "only a series selector is accepted" in error.hint

    def test_or_between_selectors_belongs_into_braces(self) -> None:
        assert "braces" in fault('{a="b"} or {c="d"}').hint


class TestHints:
    @pytest.mark.parametrize(
        ("text", "offset", "hint"),
        [
            ('{a=="b"}', 2, "write one ="),
            ('{a = ="b"}', 5, "write one ="),
            ('{a=~"\\d+"}', 5, "\\\\d, or put the value in backticks"),
            ('{a=~"x\\.y"}', 6, "`\\.`"),
            ("{a='x\\\"y'}", 5, 'write " without'),
            ('{a\u00a0="b"}', 2, "cannot be seen"),
            ('{a="b" and c="d"}', 7, "comma instead of and"),
            ('{a="b" && c="d"}', 7, "comma"),
            ('{a="b" || c="d"}', 7, '"or"'),
            ('{a="b"; c="d"}', 6, "comma"),
            ('{a="b" unless c="d"}', 7, "negative"),
            ('{a="b" c="d"}', 7, "comma is missing"),
            ('{a="b" "c"}', 7, "joined by +"),
            ("{a=5}", 3, "quotes"),
            ("{a=b}", 3, 'write "b"'),
            ("{a}", 1, '{"a"}'),
            ('{foo-bar="x"}', 4, "quotes"),
            ("foo-bar", 3, "quotes"),
            ('{1a="x"}', 1, "digit"),
            ('{a< "x"}', 2, "strings"),
            ('{a = ~"x"}', 5, "=~ and !~"),
            ('{a ! ="x"}', 3, "!="),
            ('{f("x")}', 2, "before the braces"),
            ('a="b"', 1, "braces"),
            ('"foo"{a="b"}', 5, "without quotes"),
            ("// x\nfoo", 0, "#"),
            ("{a=«b»}", 3, "plain quotes"),
            ('{a="x\ny"}', 5, "backticks"),
            ("{a=`x\\`}", 3, "backslash before a backtick"),
            ('{a=~"(?=x)"}', 5, "look-around"),
            ('{a=~"*x"}', 5, ".*"),
            ("{a=~`\\C`}", 5, "write ."),
            ('{app="x"} |= "error"', 10, "about lines of logs, which metrics do not have"),
            ('{app="x"} |~ "error"', 10, "lines of logs"),
            ('{app="x"} | json', 10, "lines of logs"),
            ('{app="x"} | {app="y"}', 10, 'separated by "or"'),
            ("up|json", 2, 'separated by "or"'),
        ],
    )
    def test_say_how_to_mend(self, text: str, offset: int, hint: str) -> None:
        error = fault(text)
        assert hint in error.hint
        assert error.offset == offset

    @pytest.mark.parametrize(
        ("char", "name"),
        [
            ("\u00a0", "NO-BREAK SPACE (U+00A0)"),
            ("\u200b", "ZERO WIDTH SPACE (U+200B)"),
            ("\ufeff", "ZERO WIDTH NO-BREAK SPACE (U+FEFF)"),
            ("\x00", "control character (U+0000)"),
        ],
    )
    def test_name_what_cannot_be_seen(self, char: str, name: str) -> None:
        assert name in fault("{a" + char + '="b"}').message

    def test_caret_points_into_the_right_line(self) -> None:
        error = fault('{\n  a=="b",\n  c="d"\n}')
        assert error.caret() == '  a=="b",\n   ^'

    def test_faults_are_reported_in_the_order_of_the_text(self) -> None:
        assert fault('{a=5, b="never closed}').offset == 3

    def test_unclosed_braces_and_strings_are_shown_where_they_open(self) -> None:
        assert fault('foo{a="b"').offset == 3
        assert fault('foo{a="b').offset == 6

    @pytest.mark.parametrize("text", ["(foo", "WITH (x=foo", "WITH (x=foo[", "foo{a=", "+"])
    def test_ends_too_early(self, text: str) -> None:
        assert fault(text).offset == len(text)


class TestStringsAndNames:
    def test_escapes(self) -> None:
        text = r'{a="\a\b\f\n\r\t\v\\\"\101\x41\u00e9\U0001F600"}'
        assert values(text) == ['\a\b\f\n\r\t\v\\"AA\u00e9\U0001f600']

    @pytest.mark.parametrize("escape", ["\\ud800", "\\U00110000", "\\400", "\\x4", "\\u12", "\\'"])
    def test_bad_escapes(self, escape: str) -> None:
        assert fault('{a="' + escape + '"}').offset == 4

    def test_backticks_are_raw(self) -> None:
        assert values("{a=`\\d\r\n\"'`}") == ["\\d\n\"'"]
        assert "backtick" in fault("{a=`x\\`y`}").message

    def test_bytes_that_are_utf8_are_text(self) -> None:
        assert values(r'{a="\xc3\xa9"}') == ["é"]

    def test_bytes_that_are_not_utf8_equal_no_text(self) -> None:
        assert values(r'{a="\xff"}') == ["\udcff"]
        assert "not valid UTF-8" in fault(r'{a=~"\xff"}').message

    def test_names_are_unescaped_as_identifiers(self) -> None:
        (group,) = parse_selector(
            r'{"a\nb"="1", c\-d="2", "\x41\u00e9\zz"="3", "x\xzz"="4"}'
        ).groups
        assert [matcher.label for matcher in group] == ["anb", "c-d", "Aézz", "x\\xzz"]

    def test_a_surrogate_in_a_name_is_the_replacement_character(self) -> None:
        assert parse_selector(r'{"\ud800"="1"}').groups == ((Matcher("\ufffd", "=", "1"),),)

    def test_the_empty_label_is_the_name(self) -> None:
        assert parse_selector('{""="x"}').groups == ((Matcher(NAME, "=", "x"),),)

    def test_lone_surrogates_are_no_text(self) -> None:
        assert fault("foo\ud800").offset == 3


class TestLimits:
    def test_length_counts_bytes(self) -> None:
        body = "x" * (QUERY_BYTES_MAX - 6)
        assert values('{a="' + body + '"}') == [body]
        assert str(QUERY_BYTES_MAX) in fault('{a="' + "é" * (QUERY_BYTES_MAX // 2) + '"}').message

    @pytest.mark.parametrize("opener", ["(", "+(", "-", "WITH (x=", "f(", "WITH () "])
    def test_nesting(self, opener: str) -> None:
        text = opener * (QUERY_BYTES_MAX // len(opener) - 1)
        fault(text)

    def test_ordinary_nesting_is_accepted(self) -> None:
        depth = NESTING_MAX - 2
        assert values("(" * depth + "foo" + ")" * depth) == ["foo"]

    def test_an_expensive_regex(self) -> None:
        message = fault('{pod=~"(a?b?){1000}c"}').message
        assert message == (
            "the regular expression is too expensive: 4005 instructions for each character of a "
            "value, at most 1500"
        )

    def test_regexes_together(self) -> None:
        text = "{" + ",".join(f"a{n}=~`(a?b?){{{n + 50}}}c`" for n in range(60)) + "}"
        message = fault(text).message
        assert message.startswith("the regular expressions are too expensive together: ")
        assert message.endswith(" instructions for each character of a value, at most 2000")

    def test_regexes_from_templates_are_counted_too(self) -> None:
        fault("WITH (p = `(a?b?){1000}c`, f = {pod=~p}) up{f}")

    @pytest.mark.parametrize(
        "pattern", ["|".join(f"pod-{n}" for n in range(1_500)), r"\\pL+", "a.*b|[^c]{80}"]
    )
    def test_what_people_write_is_accepted(self, pattern: str) -> None:
        parse_selector(f'{{pod=~"{pattern}"}}')
