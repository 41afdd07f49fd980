"""Numbers as people read them. Pure."""

from __future__ import annotations

from typing import Final

NOTHING: Final = "–"
_STEPS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def count(value: float | None) -> str:
    """Return a count in at most four digits: ``950``, ``12.3k``, ``1.20M``."""
    if value is None:
        return NOTHING
    for step, name in _STEPS:
        if value >= step * 0.99995:
            return f"{_three_digits(value / step)}{name}"
    return f"{round(value)}"


def rate(value: float | None) -> str:
    """Return a number a second, with one more digit where it is small."""
    if value is None:
        return NOTHING
    if 0 < value < 0.01:
        return "< 0.01"
    if value < 10:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return count(value)


def whole(value: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return NOTHING if value is None else f"{round(value):,}".replace(",", "\u202f")


def share(part: float, total: float) -> str:
    """Return a part of a total in percent."""
    if total <= 0:
        return NOTHING
    percent = 100 * part / total
    if not percent:
        return "0 %"
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %" if percent < 10 else f"{percent:.0f} %"


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units: ``42 s``, ``3 min 5 s``, ``2 h``."""
    if seconds is None:
        return NOTHING
    if seconds < 0.0005:
        return "< 1 ms" if seconds > 0 else "0 s"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    left = round(seconds)
    parts = []
    for size, name in _UNITS:
        number, left = divmod(left, int(size))
        if number:
            parts.append(f"{number} {name}")
        if parts and (len(parts) == 2 or not number):
            break
    return " ".join(parts)


def ago(seconds: float | None) -> str:
    """Return how long ago something was, in one unit."""
    if seconds is None:
        return "never"
    if seconds < 2:
        return "just now"
    for size, name in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {name} ago"
    return "just now"


def bytes_(value: float | None) -> str:
    """Return a size in bytes: ``512 B``, ``1.21 MB``."""
    if value is None:
        return NOTHING
    for step, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= step * 0.99995:
            return f"{_three_digits(value / step)} {name}"
    return f"{round(value)} B"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    if value < 99.95:
        return f"{value:.1f}"
    return f"{value:.0f}"
