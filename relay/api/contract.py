"""What the admin listener asks of the running relay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from relay.telemetry.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class StatusFilter:
    """Which part of the status document is asked for; "" means all.

    ``project`` leaves what that project may see; ``exporter`` is an id, or the beginning of ids
    that ends in ``/``; ``state`` leaves sinks in that state and exporters that have one.
    """

    project: str = ""
    exporter: str = ""
    state: str = ""

    def admits(self, exporter: str) -> bool:
        """Tell whether an exporter of this id is asked for."""
        if not self.exporter or self.exporter.endswith("/"):
            return exporter.startswith(self.exporter)
        return exporter == self.exporter


EVERYTHING: Final = StatusFilter()


class StatusView(Protocol):
    """Everything that can be said of one moment. Both may be called in any thread."""

    def snapshot(self) -> Snapshot:
        """The figures of a scrape."""
        ...

    def status(self, wanted: StatusFilter) -> object:
        """Return what msgspec can encode."""
        ...
