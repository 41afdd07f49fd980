"""Settings of a Vector sink that an ExportPolicy has as well: ``batch`` and ``retry``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.cli.import_vector.components import Note, VectorComponent
from relay.config.schema.words import kind_of

BATCH_MAX: Final = 5_000
ATTEMPTS_MAX: Final = 10


class _Field(NamedTuple):
    """A number of Vector's, its counterpart in a policy, and that one's bounds."""

    vector: str
    policy: str
    default: int
    lowest: float
    highest: float
    is_seconds: bool


_BATCH: Final = (
    _Field("timeout_secs", "timeout", 5, 0.001, 600, is_seconds=True),
    _Field("max_events", "maxSize", 500, 1, BATCH_MAX, is_seconds=False),
)
_RETRY: Final = (
    _Field("retry_attempts", "maxAttempts", 3, 1, ATTEMPTS_MAX, is_seconds=False),
    _Field("retry_initial_backoff_secs", "backoffDuration", 5, 0.001, 3600, is_seconds=True),
)


def batch_settings(
    component: VectorComponent, given: object, notes: list[Note]
) -> dict[str, str | int] | None:
    """Return ``batch`` of a sink; None where the ExportPolicy's default is as good."""
    return _settings(component, "batch", given, _BATCH, notes)


def retry_settings(
    component: VectorComponent, given: object, notes: list[Note]
) -> dict[str, str | int] | None:
    """Return ``retry`` of a sink; None where the ExportPolicy's default is as good."""
    return _settings(component, "request", given, _RETRY, notes)


def _settings(
    component: VectorComponent,
    section: str,
    given: object,
    fields: tuple[_Field, ...],
    notes: list[Note],
) -> dict[str, str | int] | None:
    """Return all fields if any is given, because a section with one needs both."""
    if not isinstance(given, Mapping):
        if given is not None:
            message = f"must hold settings, not {kind_of(given)}; it is left out"
            notes.append(Note(component.at(section), message))
        return None
    notes += [
        Note(component.at(f"{section}.{key}"), "has no counterpart in an ExportPolicy")
        for key in sorted(given.keys() - {field.vector for field in fields})
    ]
    if not any(field.vector in given for field in fields):
        return None
    made: dict[str, str | int] = {}
    for field in fields:
        number, message = _number(field, given.get(field.vector))
        if message:
            notes.append(Note(component.at(f"{section}.{field.vector}"), message))
        made[field.policy] = _duration(number) if field.is_seconds else int(number)
    return made


def _number(field: _Field, value: object) -> tuple[float, str]:
    """Return the number that is written, and a note where it is not the one given."""
    instead = _duration(field.default) if field.is_seconds else str(field.default)
    if value is None:
        return field.default, f"is absent: {instead} is written, the default of an ExportPolicy"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return field.default, f"must be a number, not {kind_of(value)}: {instead} is written"
    if isinstance(value, float) and math.isnan(value):
        return field.default, f"must be a number, not NaN: {instead} is written"
    if (
        not field.is_seconds
        and isinstance(value, float)
        and not value.is_integer()
        and math.isfinite(value)
    ):
        return field.default, f"must be a whole number: {instead} is written"
    if value > field.highest:
        return field.highest, f"is {_written(field, field.highest)} now, the largest allowed"
    if value < field.lowest:
        return field.lowest, f"is {_written(field, field.lowest)} now, the smallest allowed"
    return value, ""


def _written(field: _Field, number: float) -> str:
    return _duration(number) if field.is_seconds else str(int(number))


def _duration(seconds: float) -> str:
    """Return a duration as manifests write it, in whole milliseconds."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"
