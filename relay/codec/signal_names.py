"""The signals of OTLP, and the words for the items of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

SignalName = Literal["metrics", "logs", "traces"]
RecordSignal = Literal["logs", "traces"]

RECORD_SIGNALS: Final[tuple[RecordSignal, ...]] = ("logs", "traces")
SIGNALS: Final[tuple[SignalName, ...]] = ("metrics", *RECORD_SIGNALS)

RECORD_UNITS: Final[Mapping[str, str]] = {"logs": "log records", "traces": "spans"}
UNITS: Final[Mapping[str, str]] = {"metrics": "data points", **RECORD_UNITS}

RECORD_TOO_LARGE: Final = "record_too_large"
"""Reason for points and records that are left out because they, or a head of theirs, are large."""
