"""Answers of previews, tests and explanations as pages show them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from relay.ui.authoring.signals import signal_row

_LEAST_S: Final = 0.0001
_SEVERITY: Final = re.compile(r"(?:^| and )severity [A-Z]+ or more")
"""Condition on the severity in the words of a preview."""
"""Steps are told in tenths of milliseconds; none takes no time."""
STEP_WORDS: Final = {
    "credentials": "Credentials",
    "name": "Name lookup",
    "address": "Address",
    "connection": "Connection",
    "tunnel": "Proxy",
    "tls": "TLS",
    "answer": "Answer",
    "body": "Body",
}
STEP_MEANINGS: Final = {
    "credentials": "read from the Secret",
    "name": "the DNS knows the host",
    "address": "allowed by the operator",
    "connection": "made",
    "tunnel": "opened",
    "tls": "agreed on, certificate checked",
    "answer": "given to the request",
    "body": "understood",
}


class MetricCount(msgspec.Struct, frozen=True):
    """A metric and the number of its series."""

    name: str = ""
    series: int = 0


class SelectedView(msgspec.Struct, frozen=True, rename="camel"):
    """Series that are selected: of a source, or of all together."""

    name: str = ""
    series: int = 0
    samples_per_minute: float | None = None
    metrics: int = 0
    has_more_metrics: bool = False
    top_metrics: tuple[MetricCount, ...] = ()
    first_series: tuple[str, ...] = ()

    @property
    def points_per_series(self) -> float | None:
        """Data points a minute of each series, None where they were not measured."""
        if self.samples_per_minute is None or not self.series:
            return None
        return self.samples_per_minute / self.series


class SelectedRecordsView(msgspec.Struct, frozen=True, rename="camel"):
    """Records of the resources that a source of logs or traces takes."""

    name: str = ""
    signal: str = ""
    of_resources: int = 0
    resources: int = 0
    records: int = 0
    asks: str = ""
    records_per_minute: float | None = None
    bytes_per_minute: float | None = None
    sampled_records: int = 0
    without_severity: int = 0
    first_resources: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """The word for many of its records."""
        row = signal_row(self.signal)
        return row.unit if row is not None else "records"

    @property
    def asks_severity(self) -> bool:
        """True if records without a severity do not pass."""
        return bool(_SEVERITY.search(self.asks))

    @property
    def severity_share(self) -> tuple[float, float]:
        """Records without a severity, and those that were looked at for one."""
        return float(self.without_severity), float(self.sampled_records)


class PreviewView(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of a preview; ``added`` and ``removed`` are None without a stored version."""

    project_series: int = 0
    sources: tuple[SelectedView, ...] = ()
    total: SelectedView = SelectedView()
    added: SelectedView | None = None
    removed: SelectedView | None = None
    measured_seconds: float = 0.0
    records: tuple[SelectedRecordsView, ...] = ()

    @property
    def has_metrics(self) -> bool:
        """True if there is a source of metrics, or nothing else."""
        return bool(self.sources) or not self.records

    @property
    def may_measure(self) -> bool:
        """True if something is selected, and not measured yet."""
        return not self.measured_seconds and bool(
            self.total.series or any(one.resources for one in self.records)
        )

    @property
    def share(self) -> tuple[float, float]:
        """Selected series, and all that the project has."""
        return float(self.total.series), float(self.project_series)

    @property
    def is_changed(self) -> bool:
        """True if other series would be sent than by the stored version."""
        return any(one is not None and one.series for one in (self.added, self.removed))


def preview_view(status: Mapping[str, Any]) -> PreviewView:
    """Return a preview of the status of an ExporterPreview."""
    return msgspec.convert(dict(status), PreviewView)


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a test."""

    word: str
    meaning: str
    is_ok: bool
    seconds: float
    message: str


@dataclass(frozen=True, slots=True)
class TestView:
    """The answer of a test."""

    __test__ = False

    is_ok: bool
    message: str
    advice: str
    seconds: float
    steps: tuple[StepView, ...]


def test_view(status: Mapping[str, Any]) -> TestView:
    """Return a test of the status of a SinkTest."""
    steps = status.get("steps", ())
    return TestView(
        bool(status.get("ok")),
        str(status.get("message", "")),
        str(status.get("advice", "")),
        float(status.get("seconds", 0.0)),
        tuple(
            StepView(
                STEP_WORDS.get(one.get("name", ""), str(one.get("name", ""))),
                STEP_MEANINGS.get(one.get("name", ""), ""),
                bool(one.get("ok")),
                max(_LEAST_S, float(one.get("seconds", 0.0))),
                str(one.get("message", "")),
            )
            for one in steps
        ),
    )


test_view.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test
