"""The conditions of one object and its sinks over time. Pure: time is an argument (wall clock, s).

A relay that has just started, or has just become the leader, knows less than what is written. Until
:data:`CARRY_S` later, what it cannot tell yet stays as it was written for the same generation, so
that no restart and no change of the leader shows in a status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from relay.control.status.assess import (
    ObjectFacts,
    ObjectVerdicts,
    Verdicts,
    assess_object,
    assess_sink,
)
from relay.control.status.conditions import ConditionVerdict, StatusCondition, updated

CARRY_S: Final = 300.0
"""Time for which written conditions stand in for what cannot be told yet; s."""
_NOT_TOLD_YET: Final = frozenset({"NoData", "NoAnswer", "NoReport", "NotProgrammed", "Pending"})
"""Reasons that say that nothing has happened yet."""

Conditions = tuple[StatusCondition, ...]
Amend = Callable[[ObjectVerdicts], None]
"""Adds to verdicts, or replaces some, in place."""


class ObjectHistory:
    """The last conditions of an object, and of its sinks by name, in order."""

    __slots__ = ("_carry_until", "conditions", "sinks")

    def __init__(self) -> None:
        self.conditions: Conditions = ()
        self.sinks: dict[str, Conditions] = {}
        self._carry_until = 0.0

    def seed(self, conditions: Conditions, sinks: Mapping[str, Conditions], at: float) -> None:
        """Take over the conditions that are written; :meth:`judge` again then."""
        self.conditions, self.sinks = conditions, dict(sinks)
        self._carry_until = at + CARRY_S

    def judge(
        self, facts: ObjectFacts, *, generation: int, at: float, amend: Iterable[Amend] = ()
    ) -> bool:
        """Judge the object at ``at``; return whether any condition has changed.

        ``amend`` are called with the verdicts in turn.
        """
        if at >= self._carry_until:
            self._carry_until = 0.0
        sinks = {
            one.name: self._carried(self.sinks.get(one.name, ()), assess_sink(one), generation)
            for one in facts.sinks
        }
        verdicts = assess_object(facts, sinks)
        for change in amend:
            change(verdicts)
        conditions = updated(self.conditions, verdicts.conditions, generation=generation, at=at)
        of_sinks = {
            name: updated(self.sinks.get(name, ()), one, generation=generation, at=at)
            for name, one in verdicts.sinks.items()
        }
        if conditions == self.conditions and of_sinks == self.sinks:
            return False
        self.conditions, self.sinks = conditions, of_sinks
        return True

    def _carried(self, before: Conditions, verdicts: Verdicts, generation: int) -> Verdicts:
        """Return the verdicts, with the written ones where nothing can be told yet."""
        if not self._carry_until:
            return verdicts
        known = {
            one.type: one
            for one in before
            if one.observed_generation == generation and one.status != "Unknown"
        }
        return {
            name: ConditionVerdict(old.status, old.reason, old.message)
            if one.reason in _NOT_TOLD_YET and (old := known.get(name)) is not None
            else one
            for name, one in verdicts.items()
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{one.type}={one.status}" for one in self.conditions)
        return f"<ObjectHistory {shown}>"
