"""A request of OTLP has at most so many messages, empty ones among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.codec.otlp.envelope import scan
from relay.codec.otlp.metrics_in.scan import scan_metrics
from relay.codec.protobuf import field_bytes
from relay.runtime.errors import TooLargeError


def within(*tags: bytes) -> bytes:
    """Return an empty message within messages of these tags, the innermost last."""
    body = b""
    for tag in reversed(tags):
        body = field_bytes(tag, body)
    return body


RESOURCE, CHILD, GAUGE, POINT = b"\x0a", b"\x12", b"\x2a", b"\x0a"


@pytest.mark.parametrize("scanned", [scan, scan_metrics], ids=["records", "metrics"])
@pytest.mark.parametrize("path", [(RESOURCE,), (RESOURCE, CHILD)], ids=["resources", "scopes"])
def test_empty_messages_count(scanned: Callable[..., Any], path: tuple[bytes, ...]) -> None:
    body = within(*path) * 10
    entries = 10 * len(path)
    assert scanned(body, entries_max=entries).count == 0
    with pytest.raises(TooLargeError, match=f"over {entries - 1} resources, scopes, metrics"):
        scanned(body, entries_max=entries - 1)


@pytest.mark.parametrize(
    ("scanned", "path"),
    [(scan, (RESOURCE, CHILD, CHILD)), (scan_metrics, (RESOURCE, CHILD, CHILD, GAUGE, POINT))],
    ids=["records", "metrics"],
)
def test_records_and_points_count(scanned: Callable[..., Any], path: tuple[bytes, ...]) -> None:
    body = within(*path) * 100
    entries = 300 if scanned is scan else 400  # the data of a metric is no message of its own
    assert scanned(body, entries_max=entries).count == 100
    with pytest.raises(TooLargeError, match=f"over {entries - 1} resources, scopes, metrics"):
        scanned(body, entries_max=entries - 1)
