"""Compute the difference between running and desired exporters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from relay.config.exporter.types import Exporter
from relay.sink.http.credentials import SecretLookup


@dataclass(frozen=True, slots=True)
class Differences:
    """Changes needed so that exactly the exporters in ``wanted`` (by id) run.

    ``deleted`` are those removed, or changed into another object, whose object is deleted, each
    with the lookup of the secrets that it had.
    """

    wanted: Mapping[str, Exporter]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    deleted: Mapping[str, SecretLookup] = field(default_factory=dict)


class Changes(msgspec.Struct, frozen=True):
    """Ids of the exporters that applying a new set has added, changed and removed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def compare(running: Mapping[str, Exporter], exporters: Iterable[Exporter]) -> Differences:
    """Compare the running exporters, by id, to the desired ones, whose ids must be unique."""
    wanted = {exporter.id: exporter for exporter in exporters}
    changed = [
        name
        for name, new in wanted.items()
        if (old := running.get(name)) is not None and old is not new and old != new
    ]
    added = [name for name in wanted if name not in running]
    removed = [name for name in running if name not in wanted]
    return Differences(wanted, tuple(added), tuple(changed), tuple(removed))
