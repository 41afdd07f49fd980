"""Messages of senders are sent on in a form that strict readers take."""

from __future__ import annotations

import pytest

from relay.codec.remote_write.native_histogram import HistogramFault, check_histogram
from relay.codec.remote_write.strict_messages import strict_histogram, strict_label
from relay.runtime.errors import DecodeError
from tests.kit.remote_write.prompb import HistogramV2, TimeSeries
from tests.kit.remote_write.symbolic import T0_MS, native

GOOD = native(TimeSeries()).SerializeToString()


def test_a_usual_histogram_stays_as_it_is() -> None:
    assert strict_histogram(GOOD) == GOOD


@pytest.mark.parametrize(
    "odd",
    [
        b"\x18\x04",  # a sum that is a varint
        b"\x09abcdefgh",  # a count that is a double
        b"\x72\x01x",  # a reset hint that is bytes
        b"\x42\x02\x0a\x00",  # a span whose offset is bytes
        b"\x5d\x00\x00\x00\x00",  # spans that are a fixed32
    ],
)
def test_fields_of_a_wrong_wire_type_are_left_out(odd: bytes) -> None:
    strict = strict_histogram(GOOD + odd)
    assert strict in (GOOD, GOOD + b"\x42\x00")
    assert check_histogram(GOOD, 0, len(GOOD)) == T0_MS * 1_000_000


def test_unknown_fields_pass() -> None:
    assert strict_histogram(GOOD + b"\xa0\x06\x01") == GOOD + b"\xa0\x06\x01"


def test_a_label_is_its_name_and_value() -> None:
    assert strict_label(b"\x0a\x01a\x12\x01b\x10\x05\x1a\x01c") == b"\x0a\x01a\x12\x01b"
    assert strict_label(b"\x12\x01b\x0a\x01a") == b"\x0a\x01a\x12\x01b"
    assert strict_label(b"") == b""


@pytest.mark.parametrize("field", [b"\x52\x05abcde", b"\x6a\x01a", b"\x82\x01\x09abcdefghi"])
def test_packed_doubles_of_a_wrong_size_are_no_protobuf(field: bytes) -> None:
    message = GOOD + field
    with pytest.raises(DecodeError, match="multiple of 8"):
        check_histogram(message, 0, len(message))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"timestamp": 0}, "timestamp"),
        ({"count_int": 17}, "histogram_invalid"),
        ({"count_int": 17, "reset_hint": 3}, "histogram_invalid"),
        ({"count_int": 17, "schema": 20}, "histogram_invalid"),
        ({"zero_threshold": -1.0}, "histogram_invalid"),
    ],
)
def test_what_is_refused_for_every_sink(changes: dict[str, float], reason: str) -> None:
    histogram = HistogramV2.FromString(GOOD)
    for name, value in changes.items():
        setattr(histogram, name, value)
    message = histogram.SerializeToString()
    with pytest.raises(HistogramFault) as caught:
        check_histogram(message, 0, len(message))
    assert caught.value.reason == reason


@pytest.mark.parametrize("changes", [{"reset_hint": 3}, {"schema": 20}, {"count_float": 1.5}])
def test_what_only_otlp_cannot_express_is_taken(changes: dict[str, float]) -> None:
    histogram = HistogramV2.FromString(GOOD)
    for name, value in changes.items():
        setattr(histogram, name, value)
    message = histogram.SerializeToString()
    assert check_histogram(message, 0, len(message)) == T0_MS * 1_000_000
