"""The objects whose sinks run or drain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from relay.control.cluster.held_objects import HeldObjects


class Sinks:
    """Running and draining sinks by uid, as the reconciler has them."""

    def __init__(self) -> None:
        self.revision = 0
        self.running: list[str] = []
        self.draining: list[str] = []

    @property
    def exporters(self) -> list[Any]:
        return [SimpleNamespace(uid=uid) for uid in self.running]

    def entries(self) -> Any:
        uids = (*self.running, *self.draining)
        return (SimpleNamespace(owner=SimpleNamespace(uid=uid)) for uid in uids)


def test_an_object_is_held_while_it_runs_and_while_it_drains() -> None:
    sinks = Sinks()
    held = HeldObjects(sinks)
    sinks.running, sinks.revision = ["one", "two", ""], 1
    assert held.all() == {"one", "two"}
    assert held.draining() == set()
    sinks.running, sinks.draining, sinks.revision = ["two", ""], ["one", ""], 2
    assert held.all() == {"one", "two"}
    assert held.draining() == {"one"}
    sinks.draining = []  # an end is no change of the sinks
    assert held.draining() == set()
    assert held.all() == {"two"}


def test_one_removed_sink_of_an_object_that_runs_is_no_end() -> None:
    sinks = Sinks()
    sinks.running, sinks.draining, sinks.revision = ["one"], ["one"], 1
    assert HeldObjects(sinks).draining() == set()
