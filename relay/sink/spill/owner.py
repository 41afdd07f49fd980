"""Whose a queue on disk is. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from relay.config.exporter.types import Exporter, Sink


class Owner(msgspec.Struct, frozen=True):
    """A sink by its exporter's id (project, namespace and name) and its own name; ``host`` is its
    endpoint's, ``uid`` its object's; "" where unknown."""

    exporter: str
    sink: str
    host: str = ""
    uid: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The exporter's id and the sink's name."""
        return self.exporter, self.sink

    def may_adopt(self, left: Owner) -> bool:
        """Whether what another owner left behind belongs to this one: the names are the same, and
        the host and the uid are where both are known."""
        return (
            self.key == left.key
            and (self.host == left.host or not (self.host and left.host))
            and (self.uid == left.uid or not (self.uid and left.uid))
        )


def owner_of(exporter: Exporter, sink: Sink) -> Owner:
    """The owner that a sink of an exporter is."""
    return Owner(exporter.id, sink.name, urlsplit(sink.otlp.url).hostname or "", exporter.uid)
