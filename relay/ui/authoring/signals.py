"""The table of signals that a source may have: a new one is a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One signal: the field of a source, its words, and the field of its selector below that."""

    field: str
    word: str
    selector: str
    selector_label: str
    placeholder: str


SIGNALS: Final = (
    SignalRow(
        "metrics",
        "Metrics",
        "metricsql",
        "Which metrics",
        'http_requests_total{code=~"5.."}',
    ),
)
