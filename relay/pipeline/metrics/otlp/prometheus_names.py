"""Names that OTLP metrics and attributes have in Prometheus. Pure.

The rules are those of Prometheus 3's default, ``UnderscoreEscapingWithSuffixes``
(github.com/prometheus/otlptranslator 1.0, ``metric_namer.go``, ``unit_namer.go`` and
``label_namer.go``): what is no letter, digit or colon parts a name into tokens, which are joined by
underscores; the unit, ``total`` for counters and ``ratio`` for gauges of unit 1 are tokens at the
end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from relay.codec.otlp.metrics import Kind

_UNITS: Final = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER_UNITS: Final = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_NO_TOKEN: Final = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_UNITS: Final = re.compile(r"[^a-zA-Z0-9:]")
_NOT_IN_LABELS: Final = re.compile(r"[^a-zA-Z0-9]+")
_UNDERSCORES: Final = re.compile(r"_+")
_RESERVED_CHARS_MIN: Final = 4
_CACHE: Final = 4_096


@lru_cache(maxsize=_CACHE)
def metric_name(name: str, unit: str, kind: Kind, *, monotonic: bool) -> str:
    """Return the name of a metric in Prometheus; its own name where that has no character for it.

    Of a histogram or summary it is the name without suffix.
    """
    tokens = [part for part in _NO_TOKEN.split(name) if part]
    _add_unit(tokens, unit)
    if kind == "sum" and monotonic:
        tokens = [part for part in tokens if part != "total"] + ["total"]
    if kind == "gauge" and unit == "1":
        tokens = [part for part in tokens if part != "ratio"] + ["ratio"]
    found = "_".join(tokens)
    if found[:1].isdigit():
        found = f"_{found}"
    return found or name


@lru_cache(maxsize=_CACHE)
def label_name(key: str) -> str:
    """Return the name of an attribute in Prometheus; "" where it has none."""
    reserved = len(key) >= _RESERVED_CHARS_MIN and key.startswith("__") and key.endswith("__")
    found = _NOT_IN_LABELS.sub("_", key[2:-2] if reserved else key)
    if reserved:
        return f"__{found}__" if found.strip("_") else ""
    if found[:1].isdigit():
        found = f"key_{found}"
    return found if found.strip("_") else ""


def labels_of(attributes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return attributes as labels; values of keys that become one name are joined by ``;``."""
    found: dict[str, str] = {}
    for key, value in sorted(attributes):
        name = label_name(key)
        if not name or name == "__name__" or not value:
            continue
        known = found.get(name)
        found[name] = f"{known};{value}" if known else value
    return found


def unit_name(unit: str) -> str:
    """Return a unit as Prometheus' metadata has it."""
    main, per = _unit_tokens(unit)
    return "_".join(part.strip("_") for part in (main, per) if part.strip("_"))


def _add_unit(tokens: list[str], unit: str) -> None:
    main, per = _unit_tokens(unit)
    if main in tokens:
        main = ""
    per = per.removesuffix("_") if per != "per_" else ""
    if per in tokens:
        per = ""
    if per:
        main = main.removesuffix("_")
    tokens += [part for part in (main, per) if part]


def _unit_tokens(unit: str) -> tuple[str, str]:
    main, _, per = unit.partition("/")
    main, per = main.strip(), per.strip()
    main = "" if set("{}") & set(main) else _UNITS.get(main, main)
    per = "" if set("{}") & set(per) else _PER_UNITS.get(per, per)
    return _clean(main), _clean(f"per_{per}" if per else "")


def _clean(unit: str) -> str:
    return _UNDERSCORES.sub("_", _NOT_IN_UNITS.sub("_", unit)).removeprefix("_")
