"""Interface of the admin listener to the running relay."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from relay.telemetry.snapshot import Snapshot


class StatusFilter(msgspec.Struct, frozen=True):
    """Filter of the status document; "" means all.

    ``project`` keeps what that project may see; ``exporter`` is an id, or a prefix of ids that ends
    in ``/``; ``state`` keeps sinks in that state and exporters that have one.
    """

    project: str = ""
    exporter: str = ""
    state: str = ""

    def admits(self, exporter: str) -> bool:
        """Return whether the filter admits an exporter of this id."""
        if not self.exporter or self.exporter.endswith("/"):
            return exporter.startswith(self.exporter)
        return exporter == self.exporter


EVERYTHING: Final = StatusFilter()


class ScrapeView(Protocol):
    """Source of the figures of a scrape, of one moment. Any thread may call it."""

    def snapshot(self) -> Snapshot:
        """Return the figures of a scrape."""
        ...


class StatusView(ScrapeView, Protocol):
    """State of the relay at one moment. Both methods may be called in any thread."""

    def status(self, wanted: StatusFilter) -> object:
        """Return a document that msgspec can encode."""
        ...
