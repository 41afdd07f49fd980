"""Protocols the series lookup needs: read-ahead over a body, and a sink for metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from relay.codec.remote_write.v1 import Metadata, Pause
from relay.pipeline.metrics.metadata.project_types import Declaration


class ReadAhead(Protocol):
    """Reads of a whole body what its series need, before they are decoded.

    Both raise DecodeError where the body is not the decoder's message, TooLargeError where it is
    ``bounded`` and holds more entries than a request may, and what ``pause`` raises.
    """

    def metadata(self, body: bytes, *, bounded: bool, pause: Pause) -> list[Metadata]:
        """Return the metadata that travels apart from series; none where it travels with them."""
        ...

    def target_info_keys(
        self, body: bytes, *, bytes_max: int, bounded: bool, pause: Pause
    ) -> Iterator[bytes]:
        """Yield the keys of the ``target_info`` series, of up to ``bytes_max`` bytes each."""
        ...


class MetadataSink(Protocol):
    """Stores metric metadata that requests carry.

    :class:`relay.pipeline.metrics.metadata.type_store.TypeStore` implements it in the pipeline.
    """

    def learn(self, owner: str | None, metadata: Metadata) -> bool:
        """Store metadata for a project ("": for all; None: no project has it, only counted).

        Return True if the type of a name in use changed.
        """
        ...

    def declaration(self, type_: int, help_: str, unit: str) -> Declaration | None:
        """Return a series' declaration, one object for equal texts; None if it is empty."""
        ...
