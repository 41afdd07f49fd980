"""Checks of durations and sizes against the bounds that a schema gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from relay.config.schema.words import described
from relay.config.yaml.document import shown
from relay.runtime.errors import QuantityError
from relay.runtime.quantity import format_bytes, format_duration, parse_bytes, parse_duration_s


@cache
def duration_check(minimum: str, maximum: str) -> Callable[[Any], str]:
    """Return a check for a Go duration within bounds."""
    least_s, most_s = parse_duration_s(minimum), parse_duration_s(maximum)
    wanted = f"a duration from {format_duration(least_s)} to {format_duration(most_s)}"
    return partial(_problem, parse_duration_s, least_s, most_s, wanted, shown)


@cache
def size_check(minimum: str, maximum: str) -> Callable[[Any], str]:
    """Return a check for a size within bounds."""
    least, most = parse_bytes(minimum), parse_bytes(maximum)
    wanted = f"a size from {format_bytes(least)} to {format_bytes(most)}"
    return partial(_problem, parse_bytes, least, most, wanted, described)


def _problem(
    parse: Callable[[Any], float],
    least: float,
    most: float,
    wanted: str,
    describe: Callable[[Any], str],
    value: Any,
) -> str:
    try:
        quantity = parse(value)
    except QuantityError as error:
        return str(error)
    return "" if least <= quantity <= most else f"must be {wanted}, not {describe(value)}"


def seconds_of(values: dict[str, Any], key: str, default: float) -> float:
    """Return a valid duration of a mapping in seconds, ``default`` where it is absent."""
    text = values.get(key)
    return default if text is None else parse_duration_s(text)


def bytes_of(values: dict[str, Any], key: str, default: int) -> int:
    """Return a valid size of a mapping in bytes, ``default`` where it is absent."""
    size = values.get(key)
    return default if size is None else parse_bytes(size)
