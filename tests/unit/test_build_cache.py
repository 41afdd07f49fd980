"""What several builds share."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_support.build_cache import SWITCH, kept


@pytest.mark.parametrize("edited", [False, True])
def test_what_was_edited_meanwhile_is_not_kept(
    edited: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, str(tmp_path / "cache"))
    made = []

    def build(output: Path) -> str:
        def make() -> None:
            made.append(output)
            output.write_text(f"{len(made)}")

        kept(output, make, "module", "digest", is_unchanged=lambda: not edited)
        return output.read_text()

    assert build(tmp_path / "one.c") == "1"
    assert build(tmp_path / "two.c") == ("2" if edited else "1")
