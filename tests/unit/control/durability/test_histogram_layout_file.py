"""What histograms consist of, over restarts."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from relay.control.durability.histogram_layout_file import (
    NAME,
    SAVE_EVERY_S,
    LayoutFile,
    decode_layouts,
    encode_layouts,
)
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write

H = histogram("h", "", (("1", 2), ("+Inf", 3)), 4.5, 3)
S = ['s{quantile="0.5"} 1', "s_sum 2", "s_count 3"]
TYPES = {"h": "histogram", "s": "summary"}


def exporting_rig() -> Rig:
    made = Rig()
    made.export(RigSink("s", limit=1000))
    return made


def learned() -> Rig:
    """A rig that has seen what ``h`` and ``s`` consist of."""
    made = exporting_rig()
    made.feed(write(*H, *S, types=TYPES))
    made.due(20.0)
    assert len(made.engine.assembly.layouts) == 2
    return made


async def test_a_known_family_sends_its_first_set_when_it_is_whole(tmp_path: Path) -> None:
    await LayoutFile(tmp_path, exporting_rig().engine.assembly).save()
    assert not (tmp_path / NAME).exists(), "nothing to say"
    before = learned()
    file = LayoutFile(tmp_path, exporting_rig().engine.assembly)
    file._assembly = before.engine.assembly
    await file.save()
    after = exporting_rig()
    LayoutFile(tmp_path, after.engine.assembly).load()
    for member in (*H, *S):
        after.feed(write(member, at_ms=T0_MS + 1000, types=TYPES))
    after.flush()
    assert [point.name for point in after.sinks[0].any_points()] == ["h", "s"]
    assert after.engine.assembly.layouts == before.engine.assembly.layouts


async def test_it_is_saved_now_and_then_where_it_changed(tmp_path: Path) -> None:
    made = exporting_rig()
    file = LayoutFile(tmp_path, made.engine.assembly)
    file.save_if_due(0.0)
    assert file._saving is None
    made.feed(write(*H, types=TYPES))
    made.due(20.0)
    file.save_if_due(1.0)
    assert file._saving is not None
    await file._saving
    await asyncio.sleep(0)
    made.feed(write(*S, types=TYPES), tick=21.0)
    made.due(40.0)
    file.save_if_due(2.0)
    assert file._saving is None, "too soon"
    file.save_if_due(1.0 + SAVE_EVERY_S)
    assert file._saving is not None
    await file._saving
    assert len(decode_layouts((tmp_path / NAME).read_bytes())) == 2


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x93\x01\x90", encode_layouts({})[:-1]])
def test_a_damaged_file_is_said_and_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    (tmp_path / NAME).write_bytes(data)
    made = exporting_rig()
    with caplog.at_level(logging.ERROR):
        LayoutFile(tmp_path, made.engine.assembly).load()
    assert "learned again" in caplog.text
    assert made.engine.assembly.layouts == {}


def test_a_family_that_is_forgotten_is_not_saved() -> None:
    made = learned()
    assembly = made.engine.assembly
    known = set(assembly.layouts)
    for number in range(2):
        assembly._families._shares.entries_max = len(known)
        lines = histogram(f"g{number}", "", (("1", 1), ("+Inf", 1)), 1.0, 1)
        made.feed(write(*lines, types={f"g{number}": "histogram"}), tick=30.0)
        made.due(50.0)
    assert not known & set(assembly.layouts)
