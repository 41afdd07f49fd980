"""The clock of tests that say how long something may take."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests import own_time as own_time_module
from tests.own_time import own_time

TAKEN_S = 0.05


def test_it_goes_on_while_nothing_is_done() -> None:
    began = own_time()
    time.sleep(0.1)
    assert own_time() - began >= 0.09


def test_where_the_system_does_not_tell_it_is_the_monotonic_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_time_module, "_HAS_SCHEDULE", False)
    before = time.monotonic()
    assert before <= own_time() <= time.monotonic()


@pytest.mark.skipif(not own_time_module._HAS_SCHEDULE, reason="the system does not tell it")
def test_it_stands_still_while_others_have_the_processor() -> None:
    before = os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            for process in (0, other.pid):
                os.sched_setaffinity(process, {min(before)})
            began, own_began = time.monotonic(), own_time()
            taken_s = 0.0
            while taken_s < TAKEN_S:  # ends as soon as the other one has had that much of it
                taken_s = (time.monotonic() - began) - (own_time() - own_began)
        finally:
            os.sched_setaffinity(0, before)
            other.kill()
