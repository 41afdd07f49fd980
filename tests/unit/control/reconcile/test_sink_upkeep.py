"""The upkeep of sinks goes on after a bug in any part of it."""

from __future__ import annotations

from typing import cast

import pytest

from relay.control.reconcile import upkeep
from relay.control.reconcile.upkeep import SinkUpkeep
from relay.sink.eviction import Evictor
from relay.sink.spill.store import QueueStore
from relay.sink.worker import SinkWorker
from tests.kit.processes import eventually


class Broken:
    """An evictor of which every step fails."""

    def relieve_memory(self) -> None:
        raise LookupError("memory")

    def relieve_disk(self) -> None:
        raise LookupError("disk")


class Worker:
    """A sink's worker that counts its ticks."""

    ticks = 0

    def tick(self) -> bool:
        self.ticks += 1
        return True


async def test_a_bug_ends_no_upkeep(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "UPKEEP_S", 0.01)
    one = SinkUpkeep(cast("Evictor", Broken()), cast("QueueStore", object()))
    worker = Worker()
    one.awake[cast("SinkWorker", worker)] = None
    one.start()
    await eventually("it goes on", lambda: worker.ticks >= 2, timeout_s=5)
    await one.stop()
    assert {"memory", "disk"} <= {str(r.exc_info[1]) for r in caplog.records if r.exc_info}
