"""The metadata of a request, which is read before its first new series is made."""

from __future__ import annotations

import pytest

from relay.codec.remote_write.v1 import Metadata, no_pause
from relay.pipeline.metrics import decoders
from relay.pipeline.metrics.decoders import RemoteWriteV1
from relay.pipeline.metrics.hotpath.v1_loop import has_metadata
from relay.pipeline.metrics.translate.target_info import TargetInfoStore
from relay.runtime.errors import DecodeError, TooLargeError

SERIES = b"\x0a\x00"
METADATA = b"\x1a\x05\x08\x01\x12\x01c"


def metadata_of(body: bytes) -> list[Metadata]:
    return list(RemoteWriteV1().metadata(body, bounded=True, pause=no_pause))


def test_only_a_body_of_series_within_the_limit_has_surely_no_metadata() -> None:
    assert not has_metadata(b"", 0)
    assert not has_metadata(3 * SERIES, 3)
    assert has_metadata(3 * SERIES, 2)
    assert has_metadata(3 * SERIES + METADATA, 9)
    assert has_metadata(3 * SERIES + b"\x0a\x01", 9)


def test_metadata_behind_series_is_found() -> None:
    assert metadata_of(3 * SERIES) == []
    assert len(metadata_of(3 * SERIES + METADATA + SERIES)) == 1


def test_series_alone_are_counted_and_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "ELEMENTS_MAX", 2)
    assert metadata_of(2 * SERIES) == []
    with pytest.raises(TooLargeError):
        metadata_of(3 * SERIES)
    with pytest.raises(DecodeError):
        metadata_of(SERIES + b"\x0a\x01")


def test_equal_targets_of_two_projects_are_two_in_turn() -> None:
    store = TargetInfoStore()
    target = ("node", "h:1")
    one, other = store.facts(target, "one"), store.facts(target, "other")
    assert one[0] is not other[0]
    assert store.facts(target, "one")[0] is one[0]
    assert store.facts(("node", "h:2"), "one")[0] is not one[0]
