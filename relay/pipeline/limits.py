"""Bounds of the state that senders can make the pipeline keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def no_limit(_project: str) -> int | None:
    """Return None: the project has no limit."""
    return None


@dataclass(frozen=True, slots=True)
class Limits:
    """Maximum number of entries per table.

    ``series_idle_s`` is in seconds; ``series_bytes_max`` is the size of one series' labels, bytes.
    ``project_series_max`` returns the most series of a project that its sinks take.
    """

    series_max: int = 2_000_000
    series_idle_s: float = 3600.0
    series_bytes_max: int = 16 * 1024
    labels_max: int = 128
    families_max: int = 1_000_000
    histograms_max: int = 200_000
    objects_max: int = 200_000
    project_series_max: Callable[[str], int | None] = no_limit


DEFAULT_LIMITS = Limits()
