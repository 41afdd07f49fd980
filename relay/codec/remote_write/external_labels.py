"""External labels: what a sink adds to every series that it sends.

Rules (Prometheus, ``storage/remote/queue_manager.go``, ``processExternalLabels``):

* A label that the series has is not overwritten. One with an empty value is none (remote write 1.0,
  "Labels"), so it is replaced.
* Labels are sorted by the bytes of their names; they were perhaps not before. Each is otherwise the
  bytes that came.
* Without external labels nothing is looked at: the labels are the bytes that came, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.codec.remote_write.raw_series import label_fields
from relay.codec.remote_write.v1 import label_key


class ExternalLabels:
    """Adds ``labels``, whose names are unique, to keys. Once per series, not per sample."""

    __slots__ = ("_added",)

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._added = {
            name.encode(): label_key([(name, value)]) for name, value in labels.items() if value
        }

    def __bool__(self) -> bool:
        return bool(self._added)

    def added_to(self, labels: bytes) -> bytes:
        """Return a series' labels with those added that it does not have. Raises DecodeError."""
        if not self._added:
            return labels
        own = [(name, field) for field, name, value in label_fields(labels) if value]
        names = {name for name, _ in own}
        own += [(name, field) for name, field in self._added.items() if name not in names]
        # Stable, so that of a name given twice the order stays.
        own.sort(key=_name_of)
        return b"".join([field for _, field in own])

    def __repr__(self) -> str:
        return f"<ExternalLabels {', '.join(name.decode() for name in self._added)}>"


def _name_of(label: tuple[bytes, bytes]) -> bytes:
    return label[0]


NO_EXTERNAL_LABELS = ExternalLabels({})
