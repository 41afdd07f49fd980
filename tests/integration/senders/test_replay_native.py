"""What Prometheus was seen to send by both versions, native histograms and all, through the engine.

Everything that comes out must equal what :mod:`tests.kit.oracle.slow_native` and plain reading of
the official classes derive: native histograms, numbers and stale markers, point by point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from relay.codec.compression import decompress
from relay.codec.remote_write.v1 import WriteProtocol
from tests.kit.engine_rig import OutputOptions, Rig, RigSink
from tests.kit.oracle import slow_native
from tests.kit.oracle.any_points import AnyPoint, bits
from tests.kit.paths import DATA
from tests.kit.remote_write.prompb import RequestV2, WriteRequest

CAPTURES = DATA / "remote_write"
PROTOCOLS: dict[str, WriteProtocol] = {
    "prometheus-v1": "remote_write_v1",
    "prometheus-v2": "remote_write_v2",
}


class Plain(NamedTuple):
    """A point without what is told by metadata, which these senders keep apart or leave out."""

    name: str
    resource: Any
    attributes: Any
    time_ns: int
    flags: int
    kind: str
    data: Any


@cache
def captured_bodies(sender: str) -> list[bytes]:
    """The sender's bodies, decompressed, in the order in which they were sent."""
    paths = sorted((CAPTURES / sender).glob("*.bin"))
    return [decompress(path.read_bytes(), "snappy", bytes_max=32 << 20) for path in paths]


def official(sender: str) -> Iterator[tuple[dict[str, str], Any]]:
    """Every series of every body as the official classes read it, with its labels."""
    for body in captured_bodies(sender):
        if sender == "prometheus-v1":
            for series in WriteRequest.FromString(body).timeseries:
                yield {label.name: label.value for label in series.labels}, series
            continue
        request = RequestV2.FromString(body)
        for series in request.timeseries:
            texts = [request.symbols[ref] for ref in series.labels_refs]
            yield dict(zip(texts[::2], texts[1::2], strict=True)), series


def place(labels: dict[str, str]) -> tuple[str, Any, Any]:
    """Name, resource attributes and point attributes."""
    rest = dict(labels)
    name = rest.pop("__name__")
    resource = {"service.name": rest.pop("job"), "service.instance.id": rest.pop("instance")}
    return name, tuple(sorted(resource.items())), tuple(sorted(rest.items()))


def derived(sender: str) -> Counter[Plain]:
    """Every number and every native histogram that must come out."""
    points: Counter[Plain] = Counter()
    kinds: dict[Any, str] = {}
    for labels, series in official(sender):
        where = place(labels)
        for sample in series.samples:
            stale = bits(sample.value) == slow_native.STALE_BITS
            time_ns = sample.timestamp * 1_000_000
            points[Plain(*where, time_ns, int(stale), "number", bits(sample.value))] += 1
        for histogram in series.histograms:
            wanted = slow_native.derive(histogram)
            assert not wanted.reason
            kind = wanted.kind or kinds.get(where, "exponential_histogram")
            kinds[where] = kind
            points[Plain(*where, wanted.time_ns, wanted.flags, kind, wanted.data)] += 1
    return points


def plain(point: AnyPoint) -> Plain:
    """The same of a point that came out."""
    kind = point.identity.kind
    number = kind in ("gauge", "sum")
    data = point.data if number or not point.flags else None
    return Plain(
        point.name,
        point.resource,
        point.attributes,
        point.time_ns,
        point.flags,
        "number" if number else kind,
        data,
    )


@pytest.mark.parametrize("sender", PROTOCOLS)
def test_native_histograms_numbers_and_stale_markers(sender: str) -> None:
    """Of every series in every body. Classic histograms are looked at as the numbers they were."""
    rig = Rig()
    numbers = OutputOptions(unsupported=frozenset({"histogram", "summary"}))
    sink = rig.export(RigSink("s", limit=500, options=numbers))
    for body in captured_bodies(sender):
        assert not rig.feed(body, protocol=PROTOCOLS[sender]).dropped
    rig.flush()
    points = sink.any_points()
    expected = derived(sender)
    assert Counter(map(plain, points)) == expected
    natives = [point for point in points if point.identity.kind == "exponential_histogram"]
    assert len(natives) == 271
    assert all(point.identity.temporality == "cumulative" for point in natives)
    assert all(point.identity.prometheus_type == "histogram" for point in natives)
    assert sum(point.flags for point in points) > 100
    rig.engine.router.flush_counters()
    assert sink.counter.points == len(points) == expected.total()
