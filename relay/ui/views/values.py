"""Read values of objects of the API, whatever others wrote into them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def mapping_of(value: object) -> Mapping[str, Any]:
    """Return a mapping as it is, {} for anything else."""
    return value if isinstance(value, Mapping) else {}


def mappings_in(value: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    """Return the mappings in a list of this field."""
    found = value.get(field)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def number_in(value: Mapping[str, Any], field: str) -> int | None:
    """Return a whole number of this field, None for anything else."""
    found = value.get(field)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def numbers_of(value: Mapping[str, Any]) -> dict[str, int]:
    """Return the fields that are whole numbers."""
    return {name: number for name in value if (number := number_in(value, name)) is not None}
