"""The table of signals that a source may have: a new one is a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One signal: the field of a source, its words, and the field of its selector below that.

    ``selector_help`` is said before the schema's description.
    """

    field: str
    word: str
    selector: str
    selector_label: str
    placeholder: str
    selector_help: str = ""


SIGNALS: Final = (
    SignalRow(
        "metrics",
        "Metrics",
        "metricsql",
        "Which metrics",
        'http_requests_total{code=~"5.."}',
        "Begin with a metric's name, or with { for a label: your own are offered.",
    ),
)
