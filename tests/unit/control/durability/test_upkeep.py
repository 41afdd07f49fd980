"""Regular work goes on after a bug in it."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from relay.control.durability import upkeep
from relay.control.durability.admission import Admission
from relay.control.durability.upkeep import Upkeep
from relay.control.time_slicing import Turns
from tests.kit.processes import eventually


class Failing:
    """An admission whose memory cannot be measured."""

    measured = 0

    def measure(self) -> None:
        self.measured += 1
        raise LookupError("memory")


async def test_a_bug_costs_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "INTERVAL_S_MIN", 0.001)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what["exception"]))
    admission = Failing()
    one = Upkeep(cast("Admission", admission), None, None, cast("Turns", None))
    one.start()
    await eventually("it goes on", lambda: admission.measured >= 2, timeout_s=5)
    one.close()
    assert all(isinstance(one, LookupError) for one in told)
    assert len(told) >= 2
