"""Slots of questions: some in all, fewer of one project."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from relay.control.project_slots import ProjectSlots
from relay.runtime.errors import OverloadedError


def test_one_project_leaves_room_for_others() -> None:
    slots = ProjectSlots("previews", slots_max=3, project_slots_max=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(slots.take("acme"))
        with pytest.raises(OverloadedError, match="2 previews of the project are under way"):
            slots.check("acme")
        stack.enter_context(slots.take("globex"))
        with pytest.raises(OverloadedError, match="3 previews are under way"):
            slots.check("other")
        assert slots.taken == 3
    assert slots.taken == 0


def test_without_tenancy_one_project_has_all() -> None:
    slots = ProjectSlots("previews", slots_max=3, project_slots_max=1)
    with slots.take(""), slots.take(""), slots.take(""), pytest.raises(OverloadedError):
        slots.check("")
    slots.check("")
