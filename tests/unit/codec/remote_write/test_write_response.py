"""What receivers answer, word for word, and what it means."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.remote_write.response import (
    Refusal,
    Rest,
    Written,
    parse_refusal,
    parse_written,
)
from relay.codec.remote_write.v1 import WriteProtocol

V1: WriteProtocol = "remote_write_v1"
V2: WriteProtocol = "remote_write_v2"

MIMIR = (
    "send data to ingesters: failed pushing to ingester mimir-ingester-0: user=anonymous: the "
    "sample has been rejected because another sample with a more recent timestamp has already "
    "been ingested and {}. The affected sample has timestamp 2025-03-07T13:04:02.887Z and is from "
    'series up{{job="too old"}} (sampled 1/10)'
)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, "out of order sample\n", Refusal("out_of_order", "rolled_back")),
        (400, "out of bounds\n", Refusal("too_old", "rolled_back")),
        (400, "too old sample\n", Refusal("too_old", "rolled_back")),
        (
            400,
            "duplicate sample for timestamp; overrides not allowed: existing 1, new value 2\n",
            Refusal("duplicate", "rolled_back"),
        ),
        (
            400,
            MIMIR.format("out-of-order samples are not allowed (err-mimir-sample-out-of-order)"),
            Refusal("out_of_order", "stored"),
        ),
        (
            400,
            MIMIR.format(
                "this sample is beyond the out-of-order time window of 2h "
                "(err-mimir-sample-timestamp-too-old)"
            ),
            Refusal("too_old", "stored"),
        ),
        (
            400,
            (
                "received a sample whose timestamp is too far in the future, timestamp: 1 "
                "series: 'up' (err-mimir-too-far-in-future)"
            ),
            Refusal("too_far_in_future", "stored"),
        ),
        (
            400,
            (
                "received a series whose number of labels exceeds the limit (actual: 31, "
                "limit: 30) series: 'up{a=\"out of order\"}' (err-mimir-max-label-names-per-series)"
            ),
            Refusal("labels_invalid", "stored"),
        ),
        (
            400,
            "user=1: per-user series limit of 150000 exceeded (err-mimir-max-series-per-user)",
            Refusal("series_limit", "stored"),
        ),
        (400, "user=1234: err: out of bounds. timestamp=…", Refusal("too_old", "stored")),
        (409, "store locally for endpoint: conflict", Refusal("out_of_order", "stored")),
        (400, "cannot unmarshal prompb.WriteRequest", Refusal("other", "unreadable")),
        (400, "s2: corrupt input\n", Refusal("other", "unreadable")),
        (400, "proto: integer overflow\n", Refusal("other", "unreadable")),
        (400, 'unsupported path requested: "/"', Refusal("other", "unreadable")),
        (
            400,
            "decoded size exceeds the 33554432 bytes limit\n",
            Refusal("other", "too_large"),
        ),
        (
            400,
            (
                "cannot read prometheus remote_write data from client in 0 seconds: cannot "
                "decompress snappy-encoded request with length 1646696: too big data size 34603045 "
                "exceeding 33554432 bytes"
            ),
            Refusal("other", "too_large"),
        ),
        (
            400,
            (
                "cannot read prometheus remote_write data from client in 0 seconds: cannot "
                "decompress snappy-encoded request with length 8: snappy: corrupt input"
            ),
            Refusal("other", "unreadable"),
        ),
        (400, "", Refusal("other", "unknown")),
        (400, 'cannot parse series {x="out of order sample"}', Refusal("other", "unknown")),
    ],
)
def test_each_text_of_1_0(status: int, body: str, expected: Refusal) -> None:
    assert parse_refusal(status, body.encode(), V1) == expected


def test_2_0_never_rolls_back() -> None:
    body = b'out of order sample for series {__name__="up", job="a"}\n'
    assert parse_refusal(400, body, V2) == Refusal("out_of_order", "unknown")


def headers(samples: str, histograms: str, exemplars: str) -> dict[str, str]:
    """Headers of 2.0."""
    prefix = "x-prometheus-remote-write-"
    return {
        f"{prefix}samples-written": samples,
        f"{prefix}histograms-written": histograms,
        f"{prefix}exemplars-written": exemplars,
    }


def test_written_is_what_the_headers_say() -> None:
    written = parse_written(headers("4", "1", "2"))
    assert written == Written(4, 1, 2)
    assert written.points == 5


def test_an_absent_count_is_none() -> None:
    assert parse_written(headers("4", "", "")) == Written(4, 0, 0)
    assert parse_written({"x-prometheus-remote-write-histograms-written": "2"}) == Written(0, 2, 0)


@pytest.mark.parametrize("text", ["-1", "1.0", "x", "9" * 19, "٤"])
def test_a_count_that_is_none_makes_all_of_them_unknown(text: str) -> None:
    assert parse_written(headers("4", text, "2")) is None
    assert parse_written({}) is None


@given(st.integers(400, 499), st.binary(max_size=200), st.sampled_from([V1, V2]))
def test_no_body_is_too_odd(status: int, body: bytes, protocol: WriteProtocol) -> None:
    refusal = parse_refusal(status, body, protocol)
    assert refusal.rest in get_args(Rest)
