"""The owner of a queue on disk. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from relay.config.exporter.types import Exporter, Sink


class Owner(msgspec.Struct, frozen=True):
    """Identity of a sink.

    Its exporter's id (project, namespace and name), its name, the host of its endpoint, the uid of
    its Exporter, and the control plane whose object that is; these three "" if unknown.
    """

    exporter: str
    sink: str
    host: str = ""
    uid: str = ""
    control_plane: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Return the exporter's id and the sink's name."""
        return self.exporter, self.sink

    def may_adopt(self, left: Owner) -> bool:
        """Return whether this sink may adopt the queue of another owner.

        The names must be equal, and so must host and uid unless one of them is unknown.
        """
        return (
            self.key == left.key
            and (self.host == left.host or not (self.host and left.host))
            and (self.uid == left.uid or not (self.uid and left.uid))
        )


def owner_of(exporter: Exporter, sink: Sink) -> Owner:
    """Return the owner for a sink of an exporter."""
    host = urlsplit(sink.endpoint.url).hostname or ""
    return Owner(exporter.id, sink.name, host, exporter.uid, exporter.control_plane)
