"""Everything that vmagent and Prometheus were seen to send, through the engine and out as OTLP.

What the official classes read of it must equal what :mod:`tests.kit.oracle.slow_otlp` derives,
float sample by float sample, NaN bits included, whatever the batch limit, and account for every
sample.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest

from relay.codec.compression import decompress
from relay.receiver.request_target import encoding_of
from tests.kit.engine_rig import NUMBERS, Rig, RigSink
from tests.kit.oracle.number_points import NO_RECORDED_VALUE, assert_same
from tests.kit.oracle.slow_otlp import Derived, SlowRelay
from tests.kit.paths import DATA
from tests.kit.remote_write.prompb import RawWriteRequest

CAPTURES = DATA / "remote_write"
SENDERS = ["vmagent-zstd", "vmagent-snappy", "prometheus-v1"]
ALL_IN_ONE = 1_000_000


@cache
def captured_bodies(sender: str) -> list[bytes]:
    """The sender's bodies, decompressed, in the order in which they were sent."""
    found = []
    for path in sorted((CAPTURES / sender).glob("*.bin")):
        headers = json.loads(path.with_suffix(".json").read_text())["headers"]
        encoding = encoding_of(headers["Content-Encoding"])
        found.append(decompress(path.read_bytes(), encoding, bytes_max=32 << 20))
    return found


@pytest.mark.parametrize(
    ("sender", "index"),
    [
        (sender, n)
        for sender in SENDERS
        for n in range(len(list((CAPTURES / sender).glob("*.bin"))))
    ],
)
def test_each_body_alone_on_a_fresh_engine(sender: str, index: int) -> None:
    body = captured_bodies(sender)[index]
    rig = Rig()
    sink = rig.export(RigSink("s", limit=ALL_IN_ONE, options=NUMBERS))
    rig.feed(body)
    rig.flush()
    assert_same(SlowRelay().take(RawWriteRequest.FromString(body)).points, sink.points())


@cache
def derived(sender: str, repeat: int) -> list[Derived]:
    """What each body must become in this order, each of them fed ``repeat`` times."""
    oracle = SlowRelay()
    requests = [RawWriteRequest.FromString(body) for body in captured_bodies(sender)]
    return [oracle.take(request) for request in requests for _ in range(repeat)]


@pytest.mark.parametrize("limit", [7, 500])
@pytest.mark.parametrize(
    "repeat", [pytest.param(1, id="once"), pytest.param(2, id="twice", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("sender", SENDERS)
def test_all_bodies_in_order_on_one_engine(sender: str, limit: int, repeat: int) -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=limit, options=NUMBERS))
    expected = derived(sender, repeat)
    fed = [body for body in captured_bodies(sender) for _ in range(repeat)]
    for body, wanted in zip(fed, expected, strict=True):
        transaction = rig.feed(body)
        assert transaction.samples == len(wanted.points) + wanted.histograms
        assert transaction.dropped == wanted.dropped
    assert {sealed.count for sealed in sink.sealed} == {limit}
    rig.flush()

    assert_same([point for wanted in expected for point in wanted.points], sink.points())
    dropped = sum((wanted.dropped for wanted in expected), Counter[str]())
    delivered = sum(sealed.count for sealed in sink.sealed)
    statistics = rig.engine.statistics()
    assert statistics.dropped_samples == dropped
    histograms = sum(wanted.histograms for wanted in expected)
    assert statistics.received_samples == delivered + histograms + dropped.total()
    assert statistics.received_samples == sum(wanted.received for wanted in expected)
    assert sink.counter.points == delivered


@pytest.mark.parametrize("sender", SENDERS)
def test_the_captures_hold_what_is_worth_replaying(sender: str) -> None:
    """Stale markers are flagged and time goes on: a capture without them would prove little."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=500, options=NUMBERS))
    for body in captured_bodies(sender):
        rig.feed(body)
    rig.flush()
    flags = Counter(point.flags for point in sink.points())
    assert flags[0] > 10_000
    assert flags[NO_RECORDED_VALUE] > 0


@pytest.mark.parametrize("sender", ["vmagent-zstd", "vmagent-snappy"])
def test_vmagents_metadata_is_put_to_use(sender: str) -> None:
    """Of series that arrive after their metadata, every one is typed by it."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=500, options=NUMBERS))
    for body in captured_bodies(sender) * 2:
        rig.feed(body)
    rig.flush()
    typed = Counter(point.identity.prometheus_type for point in sink.points())
    assert typed["counter"] > 1000
    assert typed["gauge"] > 1000


def test_nothing_is_held_once_every_batch_is_released() -> None:
    """Positions count up by one for each accepted body, and all are free once batches are."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=500, options=NUMBERS))
    offsets = [rig.feed(body).request for body in captured_bodies("vmagent-zstd")]
    assert all(later == earlier + 1 for earlier, later in pairwise(offsets))
    rig.flush()
    for sealed in sink.sealed:
        rig.engine.offsets.release(sealed.oldest)
    assert rig.engine.offsets.low == len(offsets)
