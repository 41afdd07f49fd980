"""Parse selectors of log records and spans: LogQL's stream selector and line filters.

::

    {service_name="svc-1", "http.route"=~"/api/.+" or level="error"} |= "timeout" !~ `debug|trace`

* Inside the braces are matchers, joined by commas; ``or`` separates groups, as in MetricsQL.
* Behind them are line filters ``|= != |~ !~``, each with one text or several joined by ``or``, as
  in Grafana Loki 3 (``docs/sources/query/log_queries``, "Line filter expression").
* Stages that change records or read them otherwise (``| json``, ``| level="error"``, ``|> "<_>"``),
  and queries of metrics, are refused with their name: a source selects, it changes nothing.
"""

from __future__ import annotations

import re
from typing import Final, cast

from relay.runtime.errors import SelectorError
from relay.selector.matchers import Op
from relay.selector.metricsql.lexer import describe_char, shorten
from relay.selector.quoting import quoted_offset, unquote
from relay.selector.records.selection import (
    AttributeMatcher,
    LineFilter,
    LineOp,
    LineSelector,
    plain_name,
)
from relay.selector.regex import compile_regex

EXAMPLE: Final = '{service_name="gateway"}'
"""A selector, for those whose text is none."""
MATCHERS_MAX: Final = 100
FILTERS_MAX: Final = 50

_BLANK: Final = re.compile(r"(?:\s+|#[^\n]*)*")
_NAME: Final = re.compile(r"[^\W\d][\w.]*")
_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`', re.DOTALL)
_OPERATOR: Final = re.compile(r"=~|!~|!=|==|=")
_FILTER: Final = re.compile(r"\|=|\|~|!=|!~")
_STAGE: Final = re.compile(r"\|\s*[^\W\d]\w*|\|>|!>|\|")
_JOINT: Final = re.compile(r"(?P<all>&&?|(?i:and)\b)|\|\|")
_BARE: Final = re.compile(r"""'(?P<single>[^'"\\\n]+)'|(?P<bare>[^\s"'`{},|!=~\\]+)""")
_CALL_OF_NAME: Final = re.compile(r"([^\W\d][\w.]*)\s*\(")
_CALL: Final = re.compile(r"[^\W\d][\w.]*\s*(?:\(|by\b|without\b)")
_PARSERS: Final = frozenset({"json", "logfmt", "pattern", "regexp", "unpack"})


def parse_selector(text: str, *, has_lines: bool = True) -> LineSelector:
    """Parse a selector; the empty text and ``{}`` select everything. Raise SelectorError.

    ``has_lines`` False: line filters are refused, as spans have no lines.
    """
    return _Parser(text, has_lines=has_lines).parse()


def line_pattern(pattern: str) -> str:
    """Return the anchored pattern that finds ``pattern`` anywhere in a text."""
    return f"(?s:.*)(?:{pattern})(?s:.*)"


class _Parser:
    def __init__(self, text: str, *, has_lines: bool) -> None:
        self._text = text
        self._has_lines = has_lines
        self._at = 0

    def parse(self) -> LineSelector:
        self._skip()
        if self._at == len(self._text):
            return LineSelector()
        if self._text[self._at] != "{":
            raise self._no_selector()
        groups = self._groups()
        return LineSelector(groups, self._lines())

    def _groups(self) -> tuple[tuple[AttributeMatcher, ...], ...]:
        self._at += 1
        groups: list[tuple[AttributeMatcher, ...]] = []
        group: list[AttributeMatcher] = []
        while not self._takes("}"):
            if self._at == len(self._text):
                raise self._error("the brace that opens the selector is never closed", 0)
            if group and self._takes_word("or"):
                groups.append(tuple(group))
                group = []
                continue
            if group and not self._takes(","):
                raise self._unexpected('"," or "or" or "}"', self._hint_of_joint())
            if group and self._takes("}"):  # a comma may stand behind the last one
                break
            group.append(self._matcher())
            if len(group) + sum(map(len, groups)) > MATCHERS_MAX:
                raise self._error(f"more than {MATCHERS_MAX} conditions", self._at)
        if groups and not group:
            raise self._error('a condition is missing behind "or"', self._at - 1)
        return (*groups, tuple(group)) if group else ()

    def _matcher(self) -> AttributeMatcher:
        start, text = self._at, self._text
        is_exact = text[start : start + 1] in ('"', "`")
        if is_exact:
            name = self._string("an attribute's name")
        else:
            found = _NAME.match(text, start)
            if found is None:
                raise self._unexpected("an attribute's name")
            self._at = found.end()
            name = plain_name(found[0])
        if not name:
            raise self._error("an attribute's name must not be empty", start)
        self._skip()
        found = _OPERATOR.match(text, self._at)
        if found is None:
            raise self._unexpected("=, !=, =~ or !~")
        self._at = found.end()
        self._skip()
        value_at = self._at
        value = self._string("a text in quotes")
        op = cast("Op", "=" if found[0] == "==" else found[0])
        if op in ("=~", "!~"):
            self._check_regex(value, value_at)
        return AttributeMatcher(name, op, value, is_exact, start)

    def _lines(self) -> tuple[LineFilter, ...]:
        filters: list[LineFilter] = []
        while True:
            self._skip()
            at = self._at
            if at == len(self._text):
                return tuple(filters)
            found = _FILTER.match(self._text, at)
            if found is None:
                raise self._stage()
            if not self._has_lines:
                raise self._error(f"a span has no lines, so {found[0]} cannot be asked of it", at)
            self._at = found.end()
            filters.append(LineFilter(cast("LineOp", found[0]), self._line_values(found[0])))
            if len(filters) > FILTERS_MAX:
                raise self._error(f"more than {FILTERS_MAX} line filters", at)

    def _line_values(self, op: str) -> tuple[str, ...]:
        values: list[str] = []
        while True:
            self._skip()
            at = self._at
            call = _CALL_OF_NAME.match(self._text, at)
            if call is not None:
                raise self._error(f"{call[1]}(…) is not supported: write a text in quotes", at)
            value = self._string("a text in quotes")
            if op in ("|~", "!~"):
                self._check_regex(value, at)
            values.append(value)
            if not self._takes_word("or"):
                return tuple(values)

    def _check_regex(self, value: str, at: int) -> None:
        try:
            compile_regex(value)
        except SelectorError as error:
            offset = quoted_offset(self._text, at, error.offset)
            raise SelectorError(
                error.message, text=self._text, offset=offset, hint=error.hint
            ) from error

    def _string(self, wanted: str) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            if self._text[self._at : self._at + 1] in ('"', "`"):
                raise self._error("the string that opens here is never closed", self._at)
            raise self._unexpected(wanted, self._hint_of_text())
        self._at = found.end()
        return unquote(self._text, found.start() + 1, found.end() - 1, found[0][0])

    def _stage(self) -> SelectorError:
        """Return the error for what stands behind the braces and is no line filter."""
        at, text = self._at, self._text
        if text[at] == "[":
            return self._error("a range belongs to a query of metrics, not to a source", at)
        found = _STAGE.match(text, at)
        if found is None:
            return self._unexpected("a line filter |=, !=, |~ or !~, or the end")
        stage = " ".join(found[0].replace("|", "| ").split()) if found[0] != "|>" else "|>"
        word = stage.removeprefix("| ")
        behind = text[found.end() :].lstrip()
        if stage == "|" or word == "|":
            return self._error("a stage of a pipeline is not supported", at)
        if behind[:1] in ("=", "!", "<", ">") and word not in _PARSERS:
            hint = f"write the condition inside the braces: {{{word}=…}}"
            return self._error(f"the label filter | {word} is not supported", at, hint)
        hint = "a source selects records and does not change them; line filters are |= != |~ !~"
        return self._error(f"the pipeline stage {shorten(stage)} is not supported", at, hint)

    def _no_selector(self) -> SelectorError:
        found = _CALL.match(self._text, self._at)
        if found is not None:
            name = found[0].rstrip("( ").split()[0]
            message = (
                f"{name}(…) is a query of metrics; write a selector such as {{service_name=…}}"
            )
            return self._error(message, self._at)
        return self._unexpected('"{"', f"write a selector such as {EXAMPLE}")

    def _hint_of_joint(self) -> str:
        """Return how the conditions are joined that another language joins here; "" if none is."""
        found = _JOINT.match(self._text, self._at)
        if found is None:
            return ""
        return (
            'write "," between conditions that must all hold'
            if found["all"]
            else 'write "or" between alternatives'
        )

    def _hint_of_text(self) -> str:
        """Return how the text is quoted that stands here; "" if none does."""
        found = _BARE.match(self._text, self._at)
        text = found and (found["single"] or found["bare"])
        return f'write "{shorten(text)}", in double quotes' if text else ""

    def _unexpected(self, wanted: str, hint: str = "") -> SelectorError:
        if self._at == len(self._text):
            return self._error(f"{wanted} is missing at the end", self._at, hint)
        found = describe_char(self._text[self._at])
        return self._error(f"{wanted} is wanted, not {found}", self._at, hint)

    def _error(self, message: str, offset: int, hint: str = "") -> SelectorError:
        return SelectorError(message, text=self._text, offset=offset, hint=hint)

    def _skip(self) -> None:
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None, "the pattern matches the empty string"
        self._at = blank.end()

    def _takes(self, mark: str) -> bool:
        self._skip()
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        self._skip()
        return True

    def _takes_word(self, word: str) -> bool:
        self._skip()
        found = _NAME.match(self._text, self._at)
        if found is None or found[0] != word:
            return False
        self._at = found.end()
        self._skip()
        return True
