"""What the resolution of series needs of the request that brought them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.errors import OverloadedError
from relay.pipeline.native import NativeRoute
from relay.pipeline.series import Series
from relay.wire.remote_write import metadata_spans
from relay.wire.remote_write2 import Metadata2

if TYPE_CHECKING:
    from relay.pipeline.engine import Engine

NEW_SERIES_MAX = 50_000
"""New series of one request that are looked at before others are served: a second's worth, if
they are of usual size."""
NEW_SERIES_BYTES_MAX = 8 * 1024 * 1024
"""The same in bytes of labels, for those that are not."""


class Request:
    """One request while it is decoded; see :class:`~relay.pipeline.careful.Resolution`.

    A body may carry metadata behind its series. The types of new series are better known from the
    start than corrected afterwards, so the metadata is read when the first new series turns up.

    A series with a fault is asked for up to three times, until it is clear what is wrong. For the
    table it was seen once: else whoever sends only such ones would turn out those of others.
    """

    __slots__ = ("_ahead", "_body", "_engine", "_faulty", "_new", "_new_bytes")

    def __init__(self, body: bytes, engine: Engine) -> None:
        self._body = body
        self._engine = engine
        self._ahead = False
        self._faulty: Series | None = None
        """The series that was asked for last, if it has a fault."""
        self._new = 0
        self._new_bytes = 0

    def resolve(self, key: bytes) -> Series:
        """See :class:`~relay.pipeline.careful.Resolution`."""
        faulty = self._faulty
        if faulty is not None and faulty.key == key:
            return faulty
        series = self._engine.find(key, self)
        self._faulty = series if series.fault else None
        return series

    def learn(self, name: str, metadata: Metadata2) -> None:
        """See :class:`~relay.pipeline.careful.Resolution`."""
        self._engine.learn_series(name, metadata)

    def native(self, series: Series) -> NativeRoute:
        """See :class:`~relay.pipeline.careful.Resolution`."""
        return self._engine.native(series)

    def count_new(self, key_bytes: int) -> None:
        """Raises OverloadedError for too many: those before are known by then, and cost less the
        next time, so the same request gets further when it comes again."""
        self._new += 1
        self._new_bytes += key_bytes
        if self._new > NEW_SERIES_MAX:
            raise OverloadedError(f"over {NEW_SERIES_MAX} new series in one request")
        if self._new_bytes > NEW_SERIES_BYTES_MAX:
            raise OverloadedError(f"over {NEW_SERIES_BYTES_MAX} bytes of new series in one request")

    def learn_ahead(self) -> None:
        """Read the metadata of the whole request, once."""
        if not self._ahead:
            spans = metadata_spans(self._body)
            if spans:
                self._engine.learn(self._body, spans)
            self._ahead = True  # not before: what is faulty must be found by every attempt
