"""Consistent probability sampling: tracestate and trace id against a slow reading of the rules."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relay.codec.otlp.envelope import scan
from relay.codec.otlp.record_fields import sampled
from relay.selector.records.selection import threshold_of

MIDDLE = 1 << 55
LOW, HIGH = bytes(16), bytes(9) + b"\xff" * 7


def passes(threshold: int, *spans: Span) -> list[bool]:
    """Return which spans of a request pass."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add(spans=spans)
    envelope = scan(request.SerializeToString())
    found = sampled(envelope, [(0, len(spans))], threshold)
    kept = {number for first, stop in found for number in range(first, stop)}
    return [number in kept for number in range(len(spans))]


def expected(span: Span, threshold: int) -> bool:
    """Return whether a span passes, by the words of the specification."""
    if len(span.trace_id) != 16:
        return False
    randomness = int.from_bytes(span.trace_id[-7:], "big")
    rejected_below = None
    for member in span.trace_state.split(","):
        name, equals, value = member.strip(" \t").partition("=")
        if name != "ot" or not equals or not value:
            continue
        for part in value.split(";"):
            if found := re.fullmatch(r"rv:([0-9a-f]{14})", part):
                randomness = int(found[1], 16)
            elif found := re.fullmatch(r"th:([0-9a-f]{1,14})", part):
                rejected_below = int(found[1].ljust(14, "0"), 16)
        break
    if rejected_below is not None and rejected_below >= threshold:
        return True
    return randomness >= threshold


HEX = st.text("0123456789abcdef", min_size=1, max_size=14)
PARTS = st.one_of(
    st.builds("th:{}".format, HEX),
    st.builds("rv:{}".format, st.text("0123456789abcdef", min_size=14, max_size=14)),
    st.builds("a{}:{}".format, st.just("b"), HEX),
)
STATES = st.one_of(
    st.just(""),
    st.text("otrvh:;=, \t019afAFx", max_size=40),
    st.lists(PARTS, max_size=2, unique_by=lambda part: part[:2]).map(
        lambda parts: f"vendor=x, ot={';'.join(parts)} ,ot=rv:ffffffffffffff"
    ),
)


@given(
    st.lists(
        st.builds(
            Span,
            trace_id=st.sampled_from([LOW, HIGH, b"short"]) | st.binary(min_size=16, max_size=16),
            trace_state=STATES,
            name=st.text(max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([1, MIDDLE, threshold_of(0.1), threshold_of(1e-6)]),
)
def test_any_state_decides_as_the_slow_reading_says(spans: list[Span], threshold: int) -> None:
    assert passes(threshold, *spans) == [expected(span, threshold) for span in spans]


@pytest.mark.parametrize(
    ("trace_id", "state", "passing"),
    [
        (LOW, "", False),
        (HIGH, "", True),
        # An explicit randomness takes the place of the trace id's.
        (LOW, "ot=rv:ffffffffffffff", True),
        (HIGH, "ot=rv:00000000000000", False),
        (LOW, "a=b , ot=p:1;rv:80000000000000", True),
        # Sampled already, by half or more strictly: whatever its randomness is, it stays.
        (LOW, "ot=th:8", True),
        (LOW, "ot=th:f", True),
        (LOW, "ot=rv:00000000000000;th:c", True),
        # Sampled less strictly: the randomness decides.
        (LOW, "ot=th:4", False),
        (HIGH, "ot=th:4", True),
        # Malformed members are none.
        (HIGH, "ot=rv:0", True),
        (HIGH, "ot=rv:0000000000000G", True),
        (LOW, "ot=th:", False),
        (LOW, "ot=th:fffffffffffffff", False),
        (LOW, "xot=th:f", False),
        (HIGH[:15], "ot=th:f", False),
    ],
)
def test_half_of_all_traces(trace_id: bytes, state: str, passing: bool) -> None:
    span = Span(trace_id=trace_id, trace_state=state)
    assert passes(MIDDLE, span) == [passing]
    assert expected(span, MIDDLE) == passing
