"""Old metric names, each exported beside its replacement until 0.3.0.

The unit of a metric stands last in its name, before ``_total``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from relay.telemetry.metric_spec import MetricSpec

REMOVED_IN = "0.3.0"

DEPRECATED = {
    "relay_memory_bytes_max": "relay_memory_max_bytes",
    "relay_sink_queue_bytes_max": "relay_sink_queue_max_bytes",
    "relay_sink_seconds_until_full": "relay_sink_until_full_seconds",
    "relay_storage_bytes_max": "relay_storage_max_bytes",
}
"""Old name → its replacement."""


def deprecated(present: Iterable[MetricSpec]) -> Iterator[MetricSpec]:
    """Return the deprecated metrics under their old names."""
    by_name = {spec.name: spec for spec in present}
    for old, new in DEPRECATED.items():
        text = f"Deprecated, removed in {REMOVED_IN}: use {new}."
        yield replace(by_name[new], name=old, help=text)
