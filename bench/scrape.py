"""Series as a real node exporter exposes them, for any number of targets.

``data/node_exporter_*.txt`` are two responses of one node exporter, a minute apart, with neutral
host names, kernel and addresses. Every target has the series of the first one in its order, which
is the order of a scraper: 283 families of 507 series. Labels are those of the exposition, plus
``instance`` and ``job``; with the label set ``platform``, also the platform's.

Values extrapolate the difference of the two responses: a counter continues at the same rate, a
gauge that changed goes up and down by as much, all others are constant. Targets differ in what
changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from math import lcm
from pathlib import Path

from bench.labels import MARKER, LabelSet, is_wanted_target, target_labels_of

DATA = Path(__file__).parent / "data"
FILES = ("node_exporter_0s.txt", "node_exporter_60s.txt")
BETWEEN_FILES_MS = 60_000

WANTED_NAMES = re.compile("node_(network|memory|disk)_.*")
"""Two of five series; with a target of ten they are 4 %."""

_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\]*)"(?:,|$)')
_DIGITS = 9
"""Decimals of a value, as in the exposition."""


@dataclass(frozen=True, slots=True)
class ExposedSeries:
    """One line of the exposition; ``change`` is the increase of ``value`` per minute.

    ``labels`` exclude the name and empty ones, which scrapers drop.
    """

    name: str
    labels: dict[str, str]
    is_counter: bool
    value: float
    change: float


@cache
def exposed() -> tuple[ExposedSeries, ...]:
    """Return the series of a target, in the order of the exposition."""
    first, second = (_parsed((DATA / name).read_text(encoding="utf-8")) for name in FILES)
    series = []
    for (name, labels, kind, value), (again, same_labels, _, later) in zip(
        first, second, strict=True
    ):
        assert (name, labels) == (again, same_labels), "both files have the same series"
        series.append(ExposedSeries(name, labels, kind == "counter", value, later - value))
    return tuple(series)


def _parsed(text: str) -> list[tuple[str, dict[str, str], str, float]]:
    kinds: dict[str, str] = {}
    found = []
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            kinds[family] = kind
            continue
        match = _LINE.match(line)
        assert match is not None, line
        name, given, value = match.groups()
        labels = dict(_LABEL.findall(given or ""))
        assert _LABEL.sub("", given or "") == "", line
        found.append((name, {k: v for k, v in labels.items() if v}, _kind(name, kinds), value))
    return [(name, labels, kind, float(value)) for name, labels, kind, value in found]


def _kind(name: str, kinds: dict[str, str]) -> str:
    """Return the type of a sample's family; sum and count of a summary are counters."""
    if name in kinds:
        return kinds[name]
    assert kinds[re.sub("_(sum|count)$", "", name)] == "summary", name
    return "counter"


def labels_of(number: int, label_set: LabelSet) -> list[tuple[str, str]]:
    """Return the labels of a series, sorted by name; a target's series have consecutive numbers."""
    target, index = divmod(number, len(exposed()))
    one = exposed()[index]
    labels = {
        "__name__": one.name,
        MARKER: f"{number:08d}",
        **_labels_of_target(target, label_set),
        **one.labels,
    }
    return sorted(labels.items())


@lru_cache(maxsize=1024)
def _labels_of_target(target: int, label_set: LabelSet) -> dict[str, str]:
    instance = f"10.{target // 65536}.{target // 256 % 256}.{target % 256}:9100"
    own = {"instance": instance, "job": "node"}
    if label_set == "exposed":
        return own
    labels = target_labels_of(target, label_set) | own | {"pod": f"node-exporter-{target:05d}"}
    del labels["container"]
    return labels


def value_of(number: int, round_number: int, interval_ms: int) -> float:
    """Return the value of a series in a round; rounds are ``interval_ms`` apart."""
    target, index = divmod(number, len(exposed()))
    one = exposed()[index]
    if not one.change:
        return one.value
    step = one.change * interval_ms / BETWEEN_FILES_MS
    if one.is_counter:
        value = one.value * (1 + target % 13) + step * (1 + target % 3) * round_number
    else:
        # Up for ten rounds, then down again; each target begins elsewhere.
        place = (round_number + target) % 20
        value = one.value + step * (place if place < 10 else 20 - place)
    return float(round(value)) if one.value.is_integer() else round(value, _DIGITS)


def is_wanted(number: int) -> bool:
    """Return whether the filter of scrapes selects a series with the platform's labels."""
    target, index = divmod(number, len(exposed()))
    return is_wanted_target(target) and WANTED_NAMES.fullmatch(exposed()[index].name) is not None


def scattered_number(slot: int, targets: int) -> int:
    """Return the series in a slot of the worst order: neighbours differ in target and metric.

    Numbers are a permutation of slots.
    """
    size = len(exposed())
    # If the sizes share a factor, a pair of target and metric repeats after this many slots.
    repeated = slot // lcm(targets, size)
    return slot % targets * size + (slot * _SCATTER + repeated) % size


_SCATTER = 211
"""Distance of neighbours in the exposition: larger than any family."""
