"""Writing a scrape beside the event loop."""

from __future__ import annotations

import pytest

from relay.telemetry.metrics import CATALOGUE
from relay.telemetry.registry import Telemetry
from relay.telemetry.snapshot import Snapshot


def test_the_event_loop_gets_turns_between_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0

    def give_way() -> None:
        nonlocal turns
        turns += 1

    monkeypatch.setattr("relay.telemetry.exposition.yield_to_loop", give_way)
    Telemetry().render(Snapshot())
    assert turns >= len(CATALOGUE)
