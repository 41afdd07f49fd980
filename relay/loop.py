"""The event loop that every command runs on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

_Result = TypeVar("_Result")


def run_on_uvloop(main_coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine on a fresh uvloop event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main_coroutine)


SWITCH_INTERVAL_S = 0.0005
"""How long a thread that reads manifests may keep the loop waiting each time that the loop comes
back from a system call; Python's 5 ms add up to a tenth of a second for one request."""


def let_loop_go_first() -> None:
    """Make other threads give way to the event loop sooner than Python would."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
