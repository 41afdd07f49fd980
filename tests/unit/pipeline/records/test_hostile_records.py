"""Records and heads that cost as much as they may pause often, and are bounded."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

import pytest

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.codec.protobuf import field_bytes
from relay.pipeline.pacing import Pace
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.selector.records.logql import parse_selector
from relay.selector.records.selection import RecordSelection
from tests.own_time import HELD_S_MAX, CountingPace, held_s, slowness

TOTAL_S_MAX = 2.0
DEAR = '{k!~".*a[ab]{600}c" or k=~".*a[ab]{601}c"} !~ "a[ab]{602}c" or "a[ab]{603}c" or "a[ab]{9}c"'
"""A selector whose regular expressions need all their instructions for some characters."""


def message(tag: int, payload: bytes) -> bytes:
    """Return a field with a message."""
    return field_bytes(bytes((tag,)), payload)


def pair(tag: int, key: bytes) -> bytes:
    """Return an attribute with a short text, as a field."""
    return message(tag, field_bytes(b"\x0a", key) + message(0x12, b"\x0a\x01v"))


def resource(attributes: bytes, scopes: bytes) -> bytes:
    return message(0x0A, message(0x0A, attributes) + scopes)


def attributes_of_heads() -> bytes:
    more = b"".join(pair(0x0A, b"secret.%d" % number) for number in range(20_000))
    scopes = [
        message(0x12, message(0x0A, pair(0x1A, b"%d" % number)) + message(0x12, b"\x10\x11"))
        for number in range(1_000)
    ]
    return resource(more, b"".join(scopes))


def values_in_values() -> bytes:
    body = message(0x2A, message(0x2A, b"\x0a\x00" * 1_500_000))
    return resource(b"", message(0x12, message(0x12, body) * 6))


def attributes_of_records() -> bytes:
    attributes = pair(0x32, b"secret") + message(0x32, b"\x0a\x01a") * 750_000
    return resource(b"", message(0x12, message(0x12, attributes) * 6))


def fields_of_records() -> bytes:
    fields = pair(0x32, b"secret") + b"\x18\x00" * 1_900_000
    return resource(b"", message(0x12, message(0x12, fields) * 6))


def large_records() -> bytes:
    record = message(0x12, b"\x18\x00" * 16_300)
    return resource(b"", message(0x12, record * 1_000))


def values_to_hash() -> bytes:
    """Return a record with many attributes to hash, each a list that is dear to write as text."""
    value = message(0x12, message(0x2A, b"\x0a\x00" * 9_990))
    secret = message(0x32, field_bytes(b"\x0a", b"secret") + value)
    return resource(b"", message(0x12, message(0x12, secret * 30)))


def fields_to_merge() -> bytes:
    """Return records with a body and an attribute's value in very many parts."""
    part = b"\x02\x0a\x00"
    attribute = field_bytes(b"\x0a", b"secret") + (b"\x12" + part) * 500_000
    bodies = [(b"\x2a" + part) * 1_000_000, b"\x2a\x00" * 2_000_000 + b"\x2a" + part]
    records = [message(0x12, one) for one in (*bodies, message(0x32, attribute))]
    return resource(b"", message(0x12, b"".join(records)))


def texts_that_are_none() -> bytes:
    """Return records and a resource with long texts, no byte of which is UTF-8."""
    bad = message(0x12, field_bytes(b"\x0a", b"\xff" * 900_000))
    attribute = field_bytes(b"\x0a", b"secret") + bad
    record = message(0x2A, field_bytes(b"\x0a", b"\xff" * 3_000_000)) + message(0x32, attribute)
    return resource(message(0x0A, attribute), message(0x12, message(0x12, record) * 2))


def lines_without_an_automaton() -> bytes:
    """Return long texts for which RE2 has to follow all ways through a pattern at once."""
    choose = random.Random(1)
    text = field_bytes(b"\x0a", bytes(choose.choices(b"ab", k=1 << 16)))
    attribute = field_bytes(b"\x0a", b"r") + message(0x12, text)
    record = message(0x2A, text) + message(0x32, field_bytes(b"\x0a", b"k") + message(0x12, text))
    return resource(message(0x0A, attribute), message(0x12, message(0x12, record)))


@pytest.mark.parametrize(
    "shape",
    [
        values_to_hash,
        texts_that_are_none,
        fields_to_merge,
        lines_without_an_automaton,
        large_records,
        attributes_of_heads,
        values_in_values,
        attributes_of_records,
        fields_of_records,
    ],
)
def test_no_request_holds_the_loop(shape: Callable[[], bytes]) -> None:
    body = shape()
    total_s = math.inf

    def prepare() -> Callable[[Pace], object]:
        pipeline = pipeline_of_dear_sources()

        def work(pace: Pace) -> None:
            nonlocal total_s
            began_s = time.thread_time()
            pipeline.ingest(body, now=1.0, tick=1.0, pace=pace)
            total_s = min(total_s, time.thread_time() - began_s)

        return work

    assert held_s(prepare) < HELD_S_MAX
    assert total_s < TOTAL_S_MAX * slowness()


def test_short_records_that_are_compared_with_many_expressions_pause_each() -> None:
    record = message(0x12, message(0x2A, field_bytes(b"\x0a", b"a line")))
    body = resource(b"", message(0x12, record * 100))
    many = " or ".join(f'"z.{number:03}"' for number in range(1_000))
    for selector, pauses in (("{} !~ " + many, 100), ('{} !~ "z."', 0)):
        pipeline, pace = pipeline_of(many=RecordSelection(parse_selector(selector))), CountingPace()
        taken = pipeline.ingest(body, now=1.0, tick=1.0, pace=pace)
        assert taken.taken.samples == 100
        assert pauses <= pace.pauses < pauses + 20


def pipeline_of_dear_sources() -> RecordsPipeline:
    """A pipeline whose sources look at every attribute and every body."""
    selections = {
        "attributes": RecordSelection(parse_selector('{k!="v"}'), severity_min=1),
        "lines": RecordSelection(parse_selector('{} != "v"')),
        "redacted": RecordSelection(redactions=(("secret", "hash"), ("s", "drop"))),
        "regular": RecordSelection(parse_selector(DEAR)),
    }
    return pipeline_of(**selections)


def pipeline_of(**selections: RecordSelection) -> RecordsPipeline:
    """A pipeline with these sources, for one sink."""
    pipeline = RecordsPipeline("logs")
    batch = OpenBatch(None, limit=10_000, new_buffer=RecordBuffer)
    outputs = [SinkOutputSpec(SinkCounter("e", "s"), [batch])]
    sources = [(name, selection, outputs) for name, selection in selections.items()]
    pipeline.router.set_sources("e", "", sources)
    return pipeline
