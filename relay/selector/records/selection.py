"""The meaning of a selection of log records or spans, independent of its notation.

* A matcher without quotes names an attribute whatever its dots: ``service_name`` is
  ``service.name`` and ``service_name``. With quotes it names exactly one.
* An attribute is looked for in the resource, then in the scope, then in the record. A missing one
  equals "", for all operators.
* Line filters look at the body as text: a text as it is, any other value as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from relay.selector.matchers import Op
from relay.selector.quoting import quote_string
from relay.selector.resources.label_selector import ResourceSelection

RedactionAction = Literal["drop", "hash"]
LineOp = Literal["|=", "!=", "|~", "!~"]

SEVERITIES: Final = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}
"""First severity number of each range (opentelemetry-proto, ``logs/v1/logs.proto``)."""

RANDOM_BITS: Final = 56
"""Bits of a trace id that are random (W3C Trace Context level 2, ``random-trace-id``)."""

TENANT_ATTRIBUTES: Final = ("milo.project.id",)
CATEGORY_ATTRIBUTE: Final = "log.category"
"""Names of attributes where the settings ``otlp`` give none."""


@dataclass(frozen=True, slots=True)
class AttributeMatcher:
    """One condition on one attribute; ``is_exact``: the name was quoted."""

    name: str
    op: Op
    value: str
    is_exact: bool = False
    offset: int = field(default=-1, compare=False, repr=False)
    """Offset in the selector's text, in characters; -1 if unknown."""

    def __str__(self) -> str:
        """Return the matcher in the selector's notation."""
        name = quote_string(self.name) if self.is_exact else self.name
        return f"{name}{self.op}{quote_string(self.value)}"


class LineFilter(msgspec.Struct, frozen=True):
    """One condition on a record's body: it holds if one of ``values`` is found, or none is."""

    op: LineOp
    values: tuple[str, ...]

    def __str__(self) -> str:
        """Return the filter in the selector's notation."""
        return f"{self.op} {' or '.join(map(quote_string, self.values))}"


class LineSelector(msgspec.Struct, frozen=True):
    """A parsed selector: a disjunction of groups of matchers, and filters that all hold.

    Without groups it selects everything.
    """

    groups: tuple[tuple[AttributeMatcher, ...], ...] = ()
    lines: tuple[LineFilter, ...] = ()

    @property
    def patterns(self) -> frozenset[str]:
        """Its regular expressions."""
        conditions = [one for group in self.groups for one in group]
        asked = [one.value for one in conditions if one.op in ("=~", "!~")]
        asked += [value for one in self.lines if one.op in ("|~", "!~") for value in one.values]
        return frozenset(asked)


class RecordSelection(msgspec.Struct, frozen=True):
    """The conditions of a source of logs or traces, which are and-ed.

    ``categories`` empty: any. ``severity_min`` 0: any. ``threshold`` is the rejection threshold of
    sampling (:func:`threshold_of`), 0: all. ``whole_traces``: no part of a trace is left out by a
    condition on its spans.
    """

    selector: LineSelector = LineSelector()
    resources: ResourceSelection | None = None
    categories: tuple[str, ...] = ()
    severity_min: int = 0
    threshold: int = 0
    whole_traces: bool = False
    redactions: tuple[tuple[str, RedactionAction], ...] = ()
    """Attributes by name, and what becomes of them before a record is queued."""

    @property
    def ratio(self) -> float:
        """The part of all traces that passes the threshold."""
        return 1 - self.threshold / (1 << RANDOM_BITS)


def threshold_of(ratio: float) -> int:
    """Return the rejection threshold for a ratio of traces, of 0 < ratio <= 1.

    A trace passes whose random value is at least that (OpenTelemetry, "TraceState: Probability
    Sampling", rejection threshold).
    """
    assert 0 < ratio <= 1
    return (1 << RANDOM_BITS) - max(1, round(ratio * (1 << RANDOM_BITS)))


def severity_name(number: int) -> str:
    """Return the short name of a severity number, such as ``WARN`` or ``WARN2``; else the number.

    OpenTelemetry, "Logs Data Model", "Displaying Severity".
    """
    for name, first in reversed(SEVERITIES.items()):
        if first <= number < first + 4:
            return name if number == first else f"{name}{number - first + 1}"
    return str(number)


def plain_name(name: str) -> str:
    """Return the name under which an unquoted matcher finds an attribute."""
    return name.replace(".", "_")
