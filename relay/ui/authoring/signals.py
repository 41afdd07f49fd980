"""The table of signals that a source may have, with their controls: a new one is a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ControlKind = Literal["text", "long", "select", "number", "decimal", "lines", "words", "actions"]
"""One line, several, a choice, a whole number, any number, ``name: value`` a line, words between
commas, or ``attribute: action`` a line."""


@dataclass(frozen=True, slots=True)
class Control:
    """One control; ``path`` is below its source or sink, ``hint`` a value as it may look.

    ``is_wide``: it has a line of its own. ``help`` is said before the schema's description.
    """

    path: str
    label: str
    kind: ControlKind = "text"
    hint: str = ""
    is_rare: bool = False
    is_wide: bool = False
    help: str = ""


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One signal: the field of a source, its words, and the field of its selector below that.

    ``unit`` is the word for many of what it counts, ``unit_of_one`` for one of what it selects.
    ``per_minute`` is its figure in the usage of a source. ``controls`` are besides that of the
    selector, ``selector_help`` is said before the schema's description.
    """

    field: str
    word: str
    unit: str
    unit_of_one: str
    per_minute: str
    selector: str
    selector_label: str
    placeholder: str
    controls: tuple[Control, ...] = ()
    selector_help: str = ""
    example: str = ""
    """A record as OTLP's JSON."""


def _redact(field: str) -> Control:
    return Control(
        f"{field}.redact", "Attributes to hide", "actions", "user.email: hash", is_rare=True
    )


SIGNALS: Final = (
    SignalRow(
        "metrics",
        "Metrics",
        "points",
        "metric",
        "samplesPerMinute",
        "metricsql",
        "Which metrics",
        'http_requests_total{code=~"5.."}',
        selector_help="Begin with a metric's name, or with { for a label: your own are offered.",
    ),
    SignalRow(
        "logs",
        "Logs",
        "log records",
        "log record",
        "recordsPerMinute",
        "selector",
        "Which log records",
        '{service_name="gateway"} |= "error"',
        (
            Control("logs.minSeverity", "Least severity", "select"),
            Control("logs.categories", "Categories", "words", "access, security"),
            _redact("logs"),
        ),
        example='{"severityNumber": 17, "body": {"stringValue": "GET /a 502"}}',
    ),
    SignalRow(
        "traces",
        "Traces",
        "spans",
        "span",
        "recordsPerMinute",
        "selector",
        "Which spans",
        '{service_name="gateway"}',
        (
            Control(
                "traces.sampleRatio",
                "Part of all traces",
                "decimal",
                "0.1",
                help="1 is all of them, 0.1 a tenth.",
            ),
            Control("traces.keep", "Keep", "select"),
            _redact("traces"),
        ),
        example='{"traceId": "5b8efff798038103d269b633813fc60c", "name": "GET /a"}',
    ),
)
_ROWS: Final = {row.field: row for row in SIGNALS}


def signal_row(field: str) -> SignalRow | None:
    """Return a signal by its field."""
    return _ROWS.get(field)
