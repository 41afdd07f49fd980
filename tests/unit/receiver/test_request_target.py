"""What a request's headers say."""

from __future__ import annotations

import pytest

from relay.receiver.request_target import encoding_of
from relay.runtime.errors import UnsupportedMediaError, WireError


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, "snappy"),
        ("", "snappy"),
        ("snappy", "snappy"),
        ("zstd", "zstd"),
        (" ZSTD ", "zstd"),
        ("Snappy", "snappy"),
    ],
)
def test_content_encoding(header: str | None, encoding: str) -> None:
    assert encoding_of(header) == encoding


@pytest.mark.parametrize("header", ["gzip", "identity", "snappy, zstd", "x" * 10_000, " "])
def test_any_other_content_encoding_is_refused_by_name(header: str) -> None:
    with pytest.raises(UnsupportedMediaError, match="use snappy or zstd") as caught:
        encoding_of(header)
    assert isinstance(caught.value, WireError)
    assert len(str(caught.value)) < 200
