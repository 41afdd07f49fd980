"""Counting instructions: what the child is given, what it does with that, and the table."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from bench.labels import is_wanted
from bench.micro.instructions import CASES, CHILD, ROOT, prepare, table, total_of


@pytest.mark.slow
def test_the_child_ingests_and_encodes_every_case(tmp_path: Path) -> None:
    for name, case in CASES.items():
        place = tmp_path / name
        place.mkdir()
        prepared = prepare(case, 2_100, place)
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(prepared))
    done = subprocess.run(
        [sys.executable, "-P", CHILD, tmp_path, *CASES],
        cwd="/",
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert list(found) == list(CASES)
    assert found["scrape"]["samples"] == 2 * 4 * 507
    assert found["cold"]["samples"] < 2_100
    # What was left of the warm-up in open batches comes out, too.
    for name, one in found.items():
        assert Path(one["package"]).is_relative_to(ROOT)
        if name == "cold":
            assert one["points"] == 2_100
        elif name.startswith("cold"):
            assert one["points"] == 4 * 507
        elif name == "filter":
            assert one["points"] == 6 * sum(map(is_wanted, range(2_100)))
        elif name == "fanout":
            assert one["points"] == 5 * 3 * one["samples"]
        elif name == "leaving":
            assert one["points"] == one["samples"] == 4 * 507
        elif name == "left":
            assert one["points"] == 2 * one["samples"] == 2 * 4 * 507
        elif name == "histograms":
            assert one["points"] == 3 * one["samples"] / 14
        else:
            assert one["points"] == 3 * one["samples"], name


def test_the_same_bodies_come_out_each_time(tmp_path: Path) -> None:
    prepared = []
    for number in range(2):
        place = tmp_path / str(number)
        place.mkdir()
        prepared.append(prepare(CASES["worst"], 1_100, place))
    assert prepared[0] == prepared[1]
    assert prepared[0]["samples"] == 2 * 2 * 507


def test_the_last_column_says_how_much_more_it_is() -> None:
    columns = {"/a/here": {"export": 110.0}, "/a/there": {"export": 100.0}}
    head, row = table(columns)
    assert head.split()[-3:] == ["here", "there", "more"]
    assert row.split() == ["export", "110.0", "100.0", "+10.0%"]
    alone, _ = table({"/a/here": {"export": 110.0}})
    assert "more" not in alone


def test_the_total_of_a_dump_is_its_summary(tmp_path: Path) -> None:
    dump = tmp_path / "out.1"
    dump.write_text("# callgrind format\nevents: Ir\nsummary: 1234\n\nfn=(1) consume\n0 1234\n")
    assert total_of(dump) == 1234


def test_what_realloc_copies_is_not_counted(tmp_path: Path) -> None:
    dump = tmp_path / "out.1"
    dump.write_text(
        "summary: 1234\n\n"
        "fn=_int_realloc\n10 4\ncfn=__memcpy_avx_unaligned_erms\ncalls=3 0 \n11 200\n12 5\n\n"
        "fn=consume\n10 4\ncfn=__memcpy_avx_unaligned_erms\ncalls=3 0 \n11 50\n"
    )
    assert total_of(dump) == 1034
