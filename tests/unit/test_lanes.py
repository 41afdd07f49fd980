"""Lanes of the suite: every test runs in one of them, and a failure in any is one of the whole."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import tests.__main__ as suite
from tests.kit.paths import ROOT
from tests.lanes import CHOICES, LANES, is_elsewhere, lane_of

TESTS = ROOT / "tests"
LANE = r"import sys; lane = sys.argv[1].removeprefix('--lane='); "


def test_every_test_is_in_one_lane() -> None:
    files = {path for path in TESTS.rglob("test_*.py") if path.parts[-2] != "kit"}
    lanes = {path: lane_of(path) for path in files}
    assert set(lanes.values()) == set(LANES)
    for path in files:
        collected = [
            lane
            for lane in LANES
            if not any(
                is_elsewhere(one, lane)
                for one in (path, *path.parents)
                if one.is_relative_to(TESTS)
            )
        ]
        assert collected == [lanes[path]]


def test_a_folder_within_another_one_is_of_its_own_lane() -> None:
    assert lane_of(TESTS / "integration/control") == ""
    assert lane_of(TESTS / "integration/control/test_customers.py") == "waiting"
    assert lane_of(TESTS / "integration/control/kubernetes/test_real_source.py") == "control"
    assert lane_of(TESTS / "integration/control/kubernetes/test_real_api.py") == "peers"
    assert lane_of(TESTS / "property") == ""
    assert lane_of(TESTS / "property/codec") == "property"
    assert lane_of(TESTS / "property/control") == "computing"
    assert lane_of(TESTS / "conftest.py") == ""


def test_only_tests_that_wait_run_alone() -> None:
    mark = re.compile(r"^(@|pytestmark\b.*)pytest\.mark\.alone\b", re.MULTILINE)
    marked = {path for path in TESTS.rglob("test_*.py") if mark.search(path.read_text())}
    assert marked
    assert not [path for path in marked if is_elsewhere(path, "alone")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the suites of these tests away from what this checkout's remember."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_lanes(monkeypatch: pytest.MonkeyPatch, script: str, arguments: tuple[str, ...] = ()) -> int:
    """Run the suite with a script in pytest's place, which knows its lane."""
    monkeypatch.setattr(
        suite,
        "pytest_command",
        lambda lane, rest: [sys.executable, "-c", LANE + script, f"--lane={lane}", *rest],
    )
    return suite.main(arguments)


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ((0, 0, 0, 0, 0, 0, 0, 0), 0),
        ((0, 1, 0, 0, 0, 0, 0, 0), 1),
        ((0, 0, 0, 1, 1, 0, 0, 0), 1),
        ((0, 0, 0, 0, 0, 0, 0, 1), 1),
        ((2, 1, 0, 0, 0, 0, 0, 0), 2),
        ((5, 0, 5, 5, 5, 5, 5, 5), 0),  # what is selected is in one lane
        ((5, 1, 5, 5, 5, 5, 5, 5), 1),
        ((5, 5, 5, 5, 5, 5, 5, 5), 5),
    ],
)
def test_a_failure_of_any_lane_is_one_of_the_suite(
    monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, ...], told: int
) -> None:
    known = dict(zip(CHOICES, statuses, strict=True))
    assert run_lanes(monkeypatch, f"sys.exit({known}[lane])") == told


MEETING = """
import pathlib, time
place = pathlib.Path(sys.argv[2])
lanes = sys.argv[3:]
(place / lane).touch()
deadline = time.monotonic() + 100
while not all((place / one).exists() for one in lanes):
    assert time.monotonic() < deadline, "not side by side"
    time.sleep(0.01)
ended = [one for one in lanes if (place / f"{one}-ended").exists()]
print(lane, "runs after", ended)
(place / f"{lane}-ended").touch()
"""


def test_lanes_run_side_by_side_and_what_is_alone_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_lanes(monkeypatch, f"exec({MEETING!r})", (str(tmp_path), *LANES)) == 0
    said = capfd.readouterr().out
    assert f"alone runs after {list(LANES)}" in said
    assert "waiting runs after [" in said
    told = ", ".join(f"{lane} passed" for lane in CHOICES)
    assert told in said


@pytest.fixture
def few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have three lanes, each a pytest that starts, and what runs alone."""
    lanes = {lane: LANES[lane] for lane in ("computing", "api", "control")}
    monkeypatch.setattr(suite, "LANES", lanes)
    monkeypatch.setattr(suite, "CHOICES", (*lanes, "alone"))


CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--lane")

def pytest_ignore_collect(collection_path, config):
    if collection_path.suffix == ".py":
        return config.option.lane not in collection_path.stem or None
"""
COUNTING = """
import pathlib

def attempt():
    counted = pathlib.Path(__file__).with_suffix(".count")
    tries = int(counted.read_text()) if counted.exists() else 0
    counted.write_text(str(tries + 1))
    return tries

"""


def suite_of(root: Path, **tests: str) -> None:
    """Write a suite with one file in each lane that is named."""
    (root / "conftest.py").write_text(CONFTEST)
    for lane, test in tests.items():
        (root / f"test_{lane}.py").write_text(COUNTING + test)


def attempts(root: Path, lane: str) -> int:
    return int((root / f"test_{lane}.count").read_text())


GOOD = "def test_good():\n    assert True\n"
UNSTEADY = GOOD + "def test_late():\n    assert attempt(), 'the time was exceeded'\n"
TWICE = "def test_late():\n    assert attempt() not in {0, 2}\n"
BROKEN = "def test_broken():\n    attempt()\n    raise AssertionError\n"


@pytest.mark.slow
@pytest.mark.usefixtures("few_lanes")
@pytest.mark.parametrize("lane", ["computing", "control", "alone"])
def test_what_fails_beside_others_has_to_pass_alone(
    elsewhere: Path, capfd: pytest.CaptureFixture[str], lane: str
) -> None:
    suite_of(elsewhere, **{"api": GOOD, lane: UNSTEADY})
    assert suite.main(()) == 0
    told = capfd.readouterr().out
    assert f"UNSTEADY: failed beside others, passed alone: test_{lane}.py::test_late" in told
    assert f"{lane} passed" in told.splitlines()[-1]
    assert told.rindex("the time was exceeded") > told.rindex("rerun previous 1 failure")
    assert attempts(elsewhere, lane) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("few_lanes")
def test_what_fails_alone_fails_the_suite(
    elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    suite_of(elsewhere, api=TWICE, control=UNSTEADY)
    assert suite.main(()) == 1
    told = capfd.readouterr().out
    assert "FAILED AGAIN: test_api.py::test_late" in told
    assert "UNSTEADY: failed beside others, passed alone: test_control.py::test_late" in told
    assert "api FAILED (1)" in told.splitlines()[-1]
    assert attempts(elsewhere, "api") == 3


@pytest.mark.slow
@pytest.mark.usefixtures("few_lanes")
def test_what_fails_for_one_cause_is_not_run_again(elsewhere: Path) -> None:
    many = "".join(BROKEN.replace("test_broken", f"test_broken_{n}") for n in range(6))
    suite_of(elsewhere, api=many)
    assert suite.main(()) == 1
    assert attempts(elsewhere, "api") == 6


@pytest.mark.slow
@pytest.mark.usefixtures("few_lanes")
@pytest.mark.parametrize("argument", ["-x", "-qx", "--maxfail=1", "--lf"])
def test_a_lane_that_did_not_end_is_not_run_again(elsewhere: Path, argument: str) -> None:
    suite_of(elsewhere, api=UNSTEADY)
    assert suite.main((argument,)) == 1
    assert attempts(elsewhere, "api") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("few_lanes")
def test_a_file_that_cannot_be_read_is_not_run_again(elsewhere: Path) -> None:
    suite_of(elsewhere, api=UNSTEADY, control="import nothing_of_that_name\n")
    assert suite.main(()) == 1
    assert attempts(elsewhere, "api") == 1
