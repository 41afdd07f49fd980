"""What CONTRIBUTING.md and the tools' settings promise: targets exist, pre-commit is make lint."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import yaml

from tests.kit.documents import ROOT, documents
from tests.kit.prose import riddles

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def targets() -> set[str]:
    """The targets that the Makefile is asked for."""
    return set(" ".join(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)).split())


def test_targets_that_are_named_exist() -> None:
    for path in documents():
        for name in re.findall(r"`make ([\w-]+)", path.read_text(encoding="utf-8")):
            assert name in targets(), (path.name, name)


def test_pre_commit_is_make_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local"
    (hook,) = repository["hooks"]
    assert hook["language"] == "system"
    assert hook["entry"] == "make lint"
    assert hook["pass_filenames"] is False
    assert hook["always_run"] is True


def test_editors_keep_tabs_in_makefiles_and_the_line_length() -> None:
    text = (ROOT / ".editorconfig").read_text(encoding="utf-8")
    config = configparser.ConfigParser()
    config.read_string(f"[preamble]\n{text}")
    assert config["preamble"]["root"] == "true"
    assert config["Makefile"]["indent_style"] == "tab"
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    length = config["*.{py,pyi,pyx,pxd}"]["max_line_length"]
    assert f"line-length = {length}\n" in pyproject


@pytest.mark.parametrize(
    "path", [one for one in documents() if one.name != "CONTRIBUTING.md"], ids=lambda one: one.name
)
def test_documents_speak_plainly(path: Path) -> None:
    """CONTRIBUTING.md quotes what it forbids."""
    assert not riddles(path.read_text(encoding="utf-8"))
