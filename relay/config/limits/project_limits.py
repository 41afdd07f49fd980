"""Limits of projects, which the operator sets: for every project, and for single ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

from relay.config.schema.validate import Reading
from relay.runtime.quantity import parse_bytes

_COUNTS: Final = {
    "maxExporters": "exporters_max",
    "maxSinks": "sinks_max",
    "maxPairs": "pairs_max",
    "maxSeries": "series_max",
    "maxSamplesPerMinute": "samples_per_minute_max",
    "maxRecordsPerMinute": "records_per_minute_max",
}


@dataclass(frozen=True, slots=True)
class ProjectLimits:
    """Limits of one project; None: no limit.

    A *pair* is a source and a sink that it feeds. ``series_max`` counts the series that any sink
    takes, ``samples_per_minute_max`` the samples of all sinks, ``records_per_minute_max`` their log
    records and spans, ``queue_bytes_max`` the undelivered bytes of all sinks together.
    """

    exporters_max: int | None = None
    sinks_max: int | None = None
    pairs_max: int | None = None
    series_max: int | None = None
    samples_per_minute_max: int | None = None
    records_per_minute_max: int | None = None
    queue_bytes_max: int | None = None

    @property
    def any(self) -> bool:
        """True if there is any limit."""
        return bool(limit_values(self))


NO_LIMITS: Final = ProjectLimits()


@dataclass(frozen=True, slots=True)
class OwnLimits(ProjectLimits):
    """The limits of a single project, those of every one filled in."""

    project: str = ""


class LimitSettings(msgspec.Struct, frozen=True):
    """The limits of every project, and of those that have other ones."""

    per_project: ProjectLimits = NO_LIMITS
    projects: tuple[OwnLimits, ...] = ()

    def lookup(self) -> Callable[[str], ProjectLimits]:
        """Return a function that finds a project's limits; without tenancy there are none."""
        own: dict[str, ProjectLimits] = {"": NO_LIMITS}
        own.update((one.project, one) for one in self.projects)
        return lambda project: own.get(project, self.per_project)

    @property
    def any(self) -> bool:
        """True if any project has a limit."""
        return self.per_project.any or any(one.any for one in self.projects)


UNLIMITED: Final = LimitSettings()


def build_limits(reading: Reading, values: dict[str, Any]) -> LimitSettings:
    """Build the limits; those of a single project that are left out are every project's."""
    common = ProjectLimits(**_limits(values.get("perProject", {})))
    projects: dict[str, OwnLimits] = {}
    for index, one in enumerate(values.get("projects", ())):
        if one is None or "project" not in one:
            continue
        name = one["project"]
        if name in projects:
            reading.fault("limits", "projects", index, "project", message=f"{name} is listed twice")
        projects[name] = OwnLimits(**{**asdict(common), **_limits(one)}, project=name)
    return LimitSettings(common, tuple(projects.values()))


def _limits(values: dict[str, Any]) -> dict[str, int]:
    found = {name: values[key] for key, name in _COUNTS.items() if key in values}
    if "maxQueueBytes" in values:
        found["queue_bytes_max"] = parse_bytes(values["maxQueueBytes"])
    return found


def limit_values(limits: ProjectLimits) -> dict[str, int]:
    """Return the limits that are set, by the names of their settings."""
    names = {**_COUNTS, "maxQueueBytes": "queue_bytes_max"}
    values = {key: getattr(limits, name) for key, name in names.items()}
    return {key: value for key, value in values.items() if value is not None}
