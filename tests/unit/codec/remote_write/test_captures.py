"""What vmagent and Prometheus really send: every captured body, against the official classes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from relay.codec.compression import decompress
from relay.codec.remote_write import v2
from relay.codec.remote_write.v1 import parse_labels, parse_metadata, parse_series, top_level
from relay.receiver.request_target import encoding_of
from tests.kit.paths import DATA
from tests.kit.remote_write import prompb

CAPTURES = DATA / "remote_write"
BODIES_2 = sorted(CAPTURES.glob("prometheus-v2/*.bin"))
BODIES = sorted(set(CAPTURES.glob("*/*.bin")) - set(BODIES_2))


def test_all_senders_are_here() -> None:
    senders = {body.parent.name for body in BODIES}
    assert senders == {"prometheus-v1", "vmagent-snappy", "vmagent-zstd"}
    assert len(BODIES) == 89
    assert len(BODIES_2) == 7


@pytest.mark.parametrize("path", BODIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_captured_body_decodes_to_what_the_official_classes_say(path: Path) -> None:
    headers = json.loads(path.with_suffix(".json").read_text())["headers"]
    encoding = encoding_of(headers["Content-Encoding"])
    body = decompress(path.read_bytes(), encoding, bytes_max=32 << 20)
    official = prompb.RawWriteRequest.FromString(body)

    entries = top_level(body)
    series = [parse_series(body, *span) for number, *span in entries if number == 1]
    metadata = [parse_metadata(body, *span) for number, *span in entries if number == 3]

    assert series or metadata
    assert len(series) == len(official.timeseries)
    for ours, theirs in zip(series, official.timeseries, strict=True):
        assert ours.samples == [
            (sample.value.to_bytes(8, "little"), sample.timestamp) for sample in theirs.samples
        ]
        assert (len(ours.exemplars), len(ours.histograms)) == (
            len(theirs.exemplars),
            len(theirs.histograms),
        )
        assert parse_labels(ours.key, labels_max=100, bytes_max=16 << 10) == sorted(
            (label.name.decode(), label.value.decode()) for label in theirs.labels if label.value
        )
    assert [item[:4] for item in metadata] == [
        (item.type, item.metric_family_name.decode(), item.help.decode(), item.unit.decode())
        for item in official.metadata
    ]


@pytest.mark.parametrize("path", BODIES_2, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_captured_2_0_body_decodes_to_what_the_official_classes_say(path: Path) -> None:
    body = decompress(path.read_bytes(), "snappy", bytes_max=32 << 20)
    official = prompb.RequestV2.FromString(body)

    symbols, spans = v2.parse_request(body)

    assert len(spans) == len(official.timeseries) > 1000
    for span, theirs in zip(spans, official.timeseries, strict=True):
        ours = v2.parse_series(body, *span)
        assert ours.refs == list(theirs.labels_refs)
        names = [official.symbols[ref] for ref in theirs.labels_refs]
        key = symbols.key(ours.refs, bytes_max=16 << 10)
        assert parse_labels(key, labels_max=100) == sorted(
            (name, value) for name, value in zip(names[::2], names[1::2], strict=True) if value
        )
        assert ours.samples == [
            (struct.pack("<d", sample.value), sample.timestamp, sample.start_timestamp)
            for sample in theirs.samples
        ]
        assert (len(ours.exemplars), len(ours.histograms)) == (
            len(theirs.exemplars),
            len(theirs.histograms),
        )
