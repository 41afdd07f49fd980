"""Parse and format durations and sizes in YAML and on the command line.

Durations follow Go's ``time.ParseDuration`` (https://pkg.go.dev/time#ParseDuration): a sequence of
decimal numbers with units, such as ``1m30s`` or ``1.5h``; a bare ``0`` needs no unit. Sizes are a
decimal number with an optional binary (``KiB`` or ``Ki``) or decimal (``kB`` or ``k``) unit, and
must come to a whole number of bytes.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal

from relay.runtime.errors import QuantityError

_TEXT_CHARS_MAX = 64  # no sensible quantity is longer, and int() of long digit strings is quadratic
_INT64_MAX = 2**63 - 1

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5 micro sign
    "μs": 1_000,  # U+03BC Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_SPELLINGS = {
    "s": ("sec", "secs", "second", "seconds"),
    "m": ("min", "mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
    "w": ("week", "weeks"),
    "ms": ("msec", "msecs", "millis", "millisecond", "milliseconds"),
}
_DAY_NS = 24 * _NANOSECONDS["h"]
_LENGTHS_NS = _NANOSECONDS | {"d": _DAY_NS, "w": 7 * _DAY_NS}
_MEANT = {
    name: Decimal(_LENGTHS_NS[unit]) / _NANOSECONDS["s"]
    for unit, names in _SPELLINGS.items()
    for name in (unit, *names)
}
"""Seconds of units that Go does not have, or writes otherwise."""
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")

_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50}
_DECIMAL = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BYTES = {"": 1, "B": 1}
for _unit, _factor in (_BINARY | _DECIMAL).items():
    _BYTES[_unit] = _BYTES[_unit + "B"] = _factor
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB")
_CAPITALS = {unit.lower(): unit for unit in _SIZE_UNITS}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")


def parse_duration_s(text: str, *, negative_ok: bool = False) -> float:
    """Parse a Go duration to seconds; digits beyond a nanosecond are cut off, as in Go.

    Raise :class:`QuantityError` for anything else, and for negatives unless ``negative_ok``.
    """
    _refuse_long(text)
    sign, body = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if not body:
        raise QuantityError(f'must be a duration such as "5s" or "1m30s", not {_shown(text)}')
    total_ns = 0 if body == "0" else _sum_of_parts_ns(text, body)
    # Go's Duration is an int64 of nanoseconds, about 292 years.
    if total_ns > _INT64_MAX:
        raise QuantityError(f"the duration {_shown(text)} is too long")
    if sign == "-" and total_ns and not negative_ok:
        raise QuantityError(f"the duration {_shown(text)} must not be negative")
    seconds = total_ns / 1e9
    return -seconds if sign == "-" else seconds


def _sum_of_parts_ns(text: str, body: str) -> int:
    total_ns = 0
    position = 0
    while position < len(body):
        part = _DURATION_PART.match(body, position)
        assert part is not None, "every group of the pattern may be empty"
        whole, fraction, unit = part[1], part[2] or "", part[3]
        if not whole and not fraction:
            raise QuantityError(f'must be a duration such as "5s" or "1m30s", not {_shown(text)}')
        if not unit:
            raise QuantityError(f'the duration {_shown(text)} needs units, as in "5s"')
        factor = _NANOSECONDS.get(unit)
        if factor is None:
            raise QuantityError(
                f"unknown unit {_shown(unit)} in the duration {_shown(text)}; "
                f"units are h, m, s, ms, us, ns{_meant_duration(part, text)}"
            )
        total_ns += int(whole or "0") * factor
        total_ns += int(fraction or "0") * factor // 10 ** len(fraction)
        position = part.end()
    return total_ns


def _meant_duration(part: re.Match[str], text: str) -> str:
    """Return how a part of a duration is written that has a unit of people; "" if none is known."""
    word = part[3].strip()
    # A capital M may be a month.
    seconds = _MEANT.get(word if word == "M" else word.lower())
    if seconds is None:
        return ""
    meant = format_duration(float(seconds * Decimal(f"{part[1] or 0}.{part[2] or 0}")))
    return f"; write {meant}" + ("" if part[0] == text else f" for {_shown(part[0])}")


def format_duration(seconds: float) -> str:
    """Format seconds as the shortest Go duration, to the nanosecond: ``1m30s``, ``250ms``."""
    rest_ns = round(abs(seconds) * 1e9)
    if rest_ns == 0:
        return "0s"
    sign = "-" if seconds < 0 else ""
    if rest_ns < _NANOSECONDS["s"]:
        unit = next(unit for unit in ("ms", "us", "ns") if rest_ns >= _NANOSECONDS[unit])
        return f"{sign}{_plain(Decimal(rest_ns) / _NANOSECONDS[unit])}{unit}"
    hours, rest_ns = divmod(rest_ns, _NANOSECONDS["h"])
    minutes, rest_ns = divmod(rest_ns, _NANOSECONDS["m"])
    parts = [f"{hours}h"] if hours else []
    if minutes:
        parts.append(f"{minutes}m")
    if rest_ns:
        parts.append(f"{_plain(Decimal(rest_ns) / _NANOSECONDS['s'])}s")
    return sign + "".join(parts)


def parse_bytes(value: str | int) -> int:
    """Parse a size to bytes, at least 0: ``32MiB``, ``8Gi``, ``500kB``, ``1.5GiB``, ``1048576``.

    Raise :class:`QuantityError` for anything else, fractions of a byte included.
    """
    if isinstance(value, int):
        if isinstance(value, bool) or not 0 <= value <= _INT64_MAX:
            raise QuantityError(f"must be a size in bytes, not {str(value)[:_TEXT_CHARS_MAX]}")
        return value
    _refuse_long(value)
    match = _SIZE.fullmatch(value)
    if match is None:
        raise QuantityError(f'must be a size such as "32MiB" or "500kB", not {_shown(value)}')
    factor = _BYTES.get(match[2])
    if factor is None:
        meant = _CAPITALS.get(match[2].lower())
        raise QuantityError(
            f"unknown unit {_shown(match[2])} in the size {_shown(value)}; "
            f"units are {', '.join(_SIZE_UNITS)}" + (f"; write {match[1]}{meant}" if meant else "")
        )
    whole, _, fraction = match[1].partition(".")
    parts_per_byte: int = 10 ** len(fraction)
    scaled, part = divmod(int(whole + fraction) * factor, parts_per_byte)
    if part:
        raise QuantityError(f"the size {_shown(value)} is not a whole number of bytes")
    if scaled > _INT64_MAX:
        raise QuantityError(f"the size {_shown(value)} is too large")
    return scaled


def format_bytes(size: int) -> str:
    """Format bytes with the largest binary unit that is exact: ``32MiB``, ``1536KiB``, ``1B``."""
    assert size >= 0, "sizes are never negative"
    for unit, factor in reversed(_BINARY.items()):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}B"
    return f"{size}B"


def _plain(number: Decimal) -> str:
    """Format decimal digits without an exponent or trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _shown(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _refuse_long(text: str) -> None:
    if len(text) > _TEXT_CHARS_MAX:
        raise QuantityError(f"is longer than {_TEXT_CHARS_MAX} characters")
