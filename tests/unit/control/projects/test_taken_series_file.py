"""The file of series that are taken: damaged, of another version, and places kept by it."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.control.projects.taken_series_file import (
    NAME,
    decode_taken,
    encode_taken,
    load_taken,
    save_taken,
)
from relay.pipeline.routing.series_tally import SHARE_ALL, ProjectTally


@given(st.dictionaries(st.text(max_size=5), st.sets(st.integers(0, (1 << 32) - 1))))
def test_what_is_encoded_is_decoded(projects: dict[str, set[int]]) -> None:
    assert decode_taken(encode_taken(projects)) == projects


def test_another_version_is_ignored() -> None:
    assert decode_taken(msgspec.msgpack.encode({"version": 9, "projects": {"acme": b""}})) == {}


@pytest.mark.parametrize("data", [b"", b"\xc1", b"{}", encode_taken({"acme": {7}})[:-1]])
def test_a_damaged_file_costs_its_content_alone(
    data: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(data)
    assert load_taken(tmp_path) == {}
    assert "cannot be used" in caplog.text


def test_numbers_that_are_cut_are_damage() -> None:
    document = msgspec.msgpack.encode({"version": 1, "projects": {"acme": b"123"}})
    with pytest.raises(ValueError, match="3 bytes of acme"):
        decode_taken(document)


def test_a_directory_that_cannot_be_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_taken(tmp_path / "gone", {"acme": {1}})
    assert "cannot be written" in caplog.text
    assert load_taken(tmp_path) == {}


def test_places_are_kept_for_series_that_were_taken() -> None:
    tally = ProjectTally()
    tally.limit(2, SHARE_ALL)
    tally.reserved = {crc32(b"old")}
    assert tally.takes(b"new", known=False)
    tally.taken += 1
    assert not tally.takes(b"newer", known=False)
    assert tally.takes(b"old", known=False)
    tally.taken += 1
    assert not tally.reserved
    assert not tally.takes(b"newer", known=False)
