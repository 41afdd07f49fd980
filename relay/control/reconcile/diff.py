"""What has to change so that other exporters run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relay.config.exporter.types import Exporter


@dataclass(frozen=True, slots=True)
class Differences:
    """What has to be done so that exactly the exporters in ``wanted`` run, by id."""

    wanted: Mapping[str, Exporter]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What applying a new set of exporters did; ids of exporters."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def compare(running: Mapping[str, Exporter], exporters: Iterable[Exporter]) -> Differences:
    """From what runs, by id, to what is wanted (ids are unique). Only reads."""
    wanted = {exporter.id: exporter for exporter in exporters}
    changed = [
        name
        for name, new in wanted.items()
        if (old := running.get(name)) is not None and old is not new and old != new
    ]
    added = [name for name in wanted if name not in running]
    removed = [name for name in running if name not in wanted]
    return Differences(wanted, tuple(added), tuple(changed), tuple(removed))
