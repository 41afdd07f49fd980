"""``relay explain`` asks a relay's own API about any signal."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import pytest

from relay.cli import explain


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["up"], {"series": "up", "all": False}),
        (
            ["--signal", "logs", "--all", '{service.name="a"}'],
            {"series": '{service.name="a"}', "all": True, "signal": "logs"},
        ),
    ],
)
def test_the_signal_goes_with_the_question(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    asked: dict[str, Any],
) -> None:
    seen: list[Any] = []

    def ask(*question: Any) -> dict[str, Any]:
        seen.append(question[-1])
        return {"lines": ["one", "two"]}

    monkeypatch.setattr(explain, "ask_api", ask)
    parser = argparse.ArgumentParser()
    explain.add_explain_arguments(parser)
    access: Any = SimpleNamespace(namespace="")
    assert explain._ask_own_api(access, parser.parse_args(words)) == 0
    assert seen == [asked]
    assert capsys.readouterr().out == "one\ntwo\n"
