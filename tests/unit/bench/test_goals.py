"""The table of goals: its lines, its parts, and the floor that they are held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.dataset import Shape, write_dataset
from bench.goals.__main__ import main
from bench.goals.floor import floor_s
from bench.goals.measuring import MEASURED
from bench.goals.picture import SHOWN, draw_goals
from bench.goals.rows import ONCE, PARTS, ROWS, Figures
from bench.goals.table import table
from bench.scrape import exposed, is_wanted, labels_of

START_MS = 1_790_000_000_000


def test_every_part_is_measured() -> None:
    assert set(MEASURED) == set(PARTS)
    assert set(ONCE) < set(PARTS)


def test_a_line_has_the_median_and_says_what_is_missed() -> None:
    figures = Figures()
    for value in (2.0, 3.0, 2.4):
        figures.add("scrape cpu", value, f"{value} of it")
    figures.add("memory", 512.0)
    figures.faults.append("logs, pair 1: the peer\nended")
    lines = list(table(figures, {"relay": "relay 1\nof today"}, 3.0))
    (scrape,) = [line for line in lines if "bare labels, export all" in line]
    assert "at least 2.5: missed | **2.40** | 2.00, 3.00, 2.40 | 2.0 of it; 3.0" in scrape
    (memory,) = [line for line in lines if "1,000,000 series, bare" in line]
    assert "| at most 600 | **512** | 512 |" in memory
    assert "- relay: relay 1 of today" in lines
    assert lines[-1] == "No value: logs, pair 1: the peer ended"
    assert not any(row.title in line for line in lines for row in [ROWS["worst cpu"]])


def test_the_floor_of_larger_series_is_higher(tmp_path: Path) -> None:
    datasets = []
    for label_set in ("exposed", "platform"):
        shape = {"content": "scrape", "label_set": label_set, "series": 20 * len(exposed())}
        directory = tmp_path / label_set
        directory.mkdir()
        datasets.append(write_dataset(directory, Shape(START_MS, 1, **shape)))
    # The least of several, by turns: other processes may have a share of any of them.
    turns = [[floor_s(dataset, 0.01) for dataset in datasets] for _ in range(10)]
    exposed_s, platform_s = map(min, zip(*turns, strict=True))
    assert 0 < exposed_s < platform_s


def test_the_filter_of_scrapes_selects_four_percent() -> None:
    numbers = range(100 * len(exposed()))
    wanted = [number for number in numbers if is_wanted(number)]
    assert 0.035 < len(wanted) / len(numbers) < 0.045
    labels = dict(labels_of(wanted[0], "platform"))
    assert labels["resource_kind"] == "Gateway"
    assert labels["service_name"] == "networking.datumapis.com"


def test_unknown_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rows", "scrape,fly"])
    assert "there is no row 'fly'" in capsys.readouterr().err


def test_the_picture_shows_rows_with_a_peer(tmp_path: Path) -> None:
    assert {key for row in SHOWN for key in row[:2] if key} <= ROWS.keys()
    figures = Figures()
    with pytest.raises(ValueError, match="no row of the run has a peer"):
        draw_goals(tmp_path / "none.png", figures)
    figures.add_cost("scrape cpu", 0.5, 1.0, 2.0, "a sample")
    figures.add_cost("scrape floor", 0.5, 0.25, 2.0, "a sample")
    assert figures.notes["scrape cpu"] == ["0.500, 1.000 µs a sample"]
    draw_goals(tmp_path / "picture.png", figures)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
