"""Everything that vmagent and Prometheus were seen to send, through the engine and out as it came.

What arrives at sinks of both versions, read with the official classes, is what was sent: labels,
samples to the bit, histograms, starts where the version has them, exemplars, metadata.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from relay.codec.compression import decompress
from relay.receiver.request_target import encoding_of
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink
from tests.kit.paths import DATA
from tests.kit.remote_write.as_sent import AsSent

CAPTURES = DATA / "remote_write"
SENDERS = ["vmagent-zstd", "vmagent-snappy", "prometheus-v1", "prometheus-v2"]


def captured(sender: str) -> tuple[list[bytes], Any]:
    """The sender's bodies, decompressed and in order, and their protocol."""
    bodies = []
    for path in sorted((CAPTURES / sender).glob("*.bin")):
        headers = json.loads(path.with_suffix(".json").read_text())["headers"]
        encoding = encoding_of(headers["Content-Encoding"])
        bodies.append(decompress(path.read_bytes(), encoding, bytes_max=32 << 20))
    return bodies, "remote_write_v2" if sender.endswith("v2") else "remote_write_v1"


@pytest.mark.parametrize("limit", [97, 1_000_000])
@pytest.mark.parametrize("sender", SENDERS)
def test_captures_arrive_as_they_were_sent(sender: str, limit: int) -> None:
    bodies, protocol = captured(sender)
    sent = AsSent()
    rig = Rig()
    rig.export(
        RigSink("one", limit=limit, options=RAW1, shards=3),
        RigSink("two", limit=limit, options=RAW2, shards=2),
    )
    for number, body in enumerate(bodies):
        if protocol == "remote_write_v2":
            sent.read_v2(body)
        else:
            sent.read_v1(body)
        rig.feed(body, tick=float(number), protocol=protocol)
    rig.flush()
    one, two = (sink.as_sent() for sink in rig.sinks)
    assert sent.points() == one.points() == two.points()
    assert not two.bare
    lone = Counter[Any]()
    for labels, series in sent.series.items():
        if not series.points:
            continue
        assert one.series[labels].points == [point._replace(start_ms=0) for point in series.points]
        assert two.series[labels].points == series.points
        assert one.series[labels].exemplars == series.exemplars
        lone += Counter(series.exemplars) - Counter(two.series[labels].exemplars)
        declared = set(series.metadata) - {(0, "", "")}
        assert not declared or set(two.series[labels].metadata) == declared
    assert lone.total() == rig.sinks[1].lone_exemplars
    for family, told in sent.families.items():
        if any(("__name__", family) in labels for labels in sent.series):
            # Of several targets' texts the first one stands.
            assert one.families[family][0] == told[0]
            assert bool(one.families[family][1]) == bool(told[1])
