"""Scripts of others are what their packages had."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

import relay.ui

FOLDER = Path(relay.ui.__file__).parent / "static/vendor"


def test_every_file_has_its_digest_and_licence() -> None:
    entries = yaml.safe_load((FOLDER / "vendor.yaml").read_text())
    licences = set()
    for one in entries:
        content = (FOLDER / one["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"], one["file"]
        version = one["package"].split()[1]
        assert version in one["file"]
        licences.add(one["license"].split(", ")[1])
    named = {one["file"] for one in entries} | licences | {"vendor.yaml"}
    assert {path.name for path in FOLDER.iterdir()} == named


def test_templates_and_scripts_have_nothing_inline() -> None:
    """The policy would refuse it; here the fault is found with its line."""
    for path in (FOLDER.parents[1] / "templates").iterdir():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.name}:{number}"
            assert " style=" not in line, where
            assert " onclick=" not in line, where
            assert "hx-on" not in line, where
            assert "<script>" not in line, where
            assert "<style" not in line, where
            assert "javascript:" not in line, where


def test_text_fades_only_where_nothing_can_be_done() -> None:
    """A faded button that can be pressed is below the contrast that text needs."""
    for rule in (FOLDER.parent / "page.css").read_text().splitlines():
        if "opacity:" in rule and "opacity: 1;" not in rule:
            assert "[disabled]" in rule.partition("{")[0], rule
