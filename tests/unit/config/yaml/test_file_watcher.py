"""Which files changed and came to rest: renames, swapped links, editors, endless writers."""

from __future__ import annotations

from pathlib import Path

from relay.config.yaml.file_watcher import (
    ABSENT,
    SETTLE_S,
    UNREST_MAX_S,
    FileWatch,
    manifest_files,
    signature,
)
from relay.runtime.errors import Fault

A, B = Path("a.yaml"), Path("b.yaml")
ONE, TWO, THREE = (1,), (2,), (3,)


def test_a_change_counts_once_it_has_rested() -> None:
    watch = FileWatch()
    assert watch.take({A: ONE, B: ONE}) == {A, B}
    assert watch.observe({A: ONE, B: ONE}, 0.0) == set()
    assert not watch.restless
    assert watch.observe({A: TWO, B: ONE}, 1.0) == set()
    assert watch.restless
    assert watch.observe({A: THREE, B: ONE}, 1.1) == set(), "still being written"
    assert watch.observe({A: THREE, B: ONE}, 1.2) == set()
    assert watch.observe({A: THREE, B: ONE}, 1.11 + SETTLE_S) == {A}
    assert watch.observe({A: THREE, B: ONE}, 9.0) == set(), "once"
    assert not watch.restless


def test_a_file_that_is_away_for_a_moment_is_not_deleted() -> None:
    """As an editor leaves it that writes a backup first."""
    watch = FileWatch()
    watch.take({A: ONE})
    assert watch.observe({}, 1.0) == set()
    assert watch.observe({A: TWO}, 1.1) == set()
    assert watch.observe({A: TWO}, 2.0) == {A}
    assert watch.observe({}, 3.0) == set()
    assert watch.observe({}, 3.0 + SETTLE_S) == {A}, "now it is"
    assert watch.signature_of(A) == ABSENT


def test_a_change_that_is_taken_back_is_none() -> None:
    watch = FileWatch()
    watch.take({A: ONE})
    watch.observe({A: TWO}, 1.0)
    assert watch.observe({A: ONE}, 1.1) == set()
    assert not watch.restless
    assert watch.observe({A: ONE}, 9.0) == set()


def test_a_file_that_never_rests_is_taken_as_it_is() -> None:
    watch = FileWatch()
    watch.take({A: ONE})
    taken = [step for step in range(100) if watch.observe({A: (step + 2,)}, step * 0.1)]
    assert 1 <= len(taken) <= 100 * 0.1 / UNREST_MAX_S
    assert repr(watch) == "<FileWatch 1 files, 1 restless>"
    assert watch.statistics().restless == 1


def test_a_file_that_is_new_and_gone_again_was_never_there() -> None:
    watch = FileWatch()
    watch.observe({A: ONE}, 0.0)
    assert watch.observe({}, 0.1) == set()
    assert watch.observe({}, 9.0) == set()


def test_signatures_see_through_renames_and_links(tmp_path: Path) -> None:
    """Equal sizes: an atomic rename, and the swap of a link as Kubernetes does it."""
    target = tmp_path / "x.yaml"
    target.write_text("one")
    seen = {signature(target)}
    fresh = tmp_path / "fresh"
    fresh.write_text("two")
    fresh.rename(target)
    seen.add(signature(target))
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "x.yaml").write_text("map")
        link = tmp_path / "..new"
        link.symlink_to(version)
        link.rename(tmp_path / "..data")
        if not (tmp_path / "mapped.yaml").is_symlink():
            (tmp_path / "mapped.yaml").symlink_to("..data/x.yaml")
        seen.add(signature(tmp_path / "mapped.yaml"))
    assert len(seen) == 4
    assert signature(tmp_path / "none") == ABSENT
    found = manifest_files(tmp_path, print)
    assert list(found) == [tmp_path / "mapped.yaml", target]
    assert found == {path: signature(path) for path in found}
    assert manifest_files(target, print) == {target: found[target]}


def test_what_cannot_be_looked_into_is_said(tmp_path: Path) -> None:
    faults: list[Fault] = []
    lost: list[Path] = []
    gone = tmp_path / "gone"
    assert manifest_files(gone, faults.append, lost.append) == {gone: ABSENT}
    assert (faults, lost) == ([], [gone])
