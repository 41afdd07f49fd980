"""What builds share, by content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from build_support.build_cache import SWITCH, kept


class Maker:
    """Writes its text, and counts how often."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.made = 0

    def writing(self, text: str) -> Callable[[], None]:
        """Return what writes a text."""

        def make() -> None:
            self.made += 1
            self.output.write_text(text, encoding="utf-8")

        return make


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "one.c")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache, which is made when something is kept."""
    monkeypatch.setenv(SWITCH, str(tmp_path / "some" / "cache"))
    return tmp_path / "some" / "cache"


def test_equal_keys_are_made_once(maker: Maker, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.c"
    kept(maker.output, maker.writing("first"), "module", b"digest", ["-O3"])
    kept(other, maker.writing("second"), "module", b"digest", ["-O3"])
    assert (other.read_text(encoding="utf-8"), maker.made) == ("first", 1)
    (entry,) = folder.iterdir()
    assert entry.suffix == ".c"


@pytest.mark.parametrize(
    "key", [("other", b"digest", ["-O3"]), ("module", b"x", ["-O3"]), ("module", b"digest", [])]
)
def test_other_keys_are_made_anew(maker: Maker, folder: Path, key: tuple[object, ...]) -> None:
    kept(maker.output, maker.writing("first"), "module", b"digest", ["-O3"])
    kept(maker.output, maker.writing("second"), *key)
    assert (maker.output.read_text(encoding="utf-8"), maker.made) == ("second", 2)
    assert len(list(folder.iterdir())) == 2


def test_what_fails_is_not_kept(maker: Maker, folder: Path) -> None:
    def fail() -> None:
        maker.output.write_text("half", encoding="utf-8")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        kept(maker.output, fail, "module")
    assert not folder.exists()
    kept(maker.output, maker.writing("whole"), "module")
    assert maker.output.read_text(encoding="utf-8") == "whole"


def test_without_a_folder_everything_is_made(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    for _ in range(2):
        kept(maker.output, maker.writing("text"), "module")
    assert maker.made == 2


def test_what_was_edited_meanwhile_is_not_kept(maker: Maker, folder: Path) -> None:
    kept(maker.output, maker.writing("first"), "module", is_unchanged=lambda: False)
    assert not folder.exists()
    kept(maker.output, maker.writing("second"), "module", is_unchanged=lambda: True)
    kept(maker.output, maker.writing("third"), "module")
    assert maker.output.read_text(encoding="utf-8") == "second"
