"""Bound the questions that are under way or wait, of all projects and of each.

Without tenancy there is one project, which may have all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from relay.runtime.errors import OverloadedError


class ProjectSlots:
    """Counts questions by project; ``what`` names them in refusals."""

    def __init__(self, what: str, *, slots_max: int, project_slots_max: int) -> None:
        self._what = what
        self._slots_max = slots_max
        self._project_slots_max = project_slots_max
        self._taken: dict[str, int] = {}

    @property
    def taken(self) -> int:
        """Number of slots that are taken."""
        return sum(self._taken.values())

    def is_full(self, project: str) -> bool:
        """Return whether a project has no slot now; "" is the only project."""
        return bool(self._refusal(project))

    def check(self, project: str) -> None:
        """Raise OverloadedError where a project has no slot now."""
        refusal = self._refusal(project)
        if refusal:
            raise OverloadedError(refusal)

    def _refusal(self, project: str) -> str:
        if self.taken >= self._slots_max:
            return f"{self.taken} {self._what} are under way already"
        own = self._taken.get(project, 0)
        if project and own >= self._project_slots_max:
            return f"{own} {self._what} of the project are under way already"
        return ""

    @contextmanager
    def take(self, project: str) -> Iterator[None]:
        """Take a slot for the duration of the block; raise OverloadedError as :meth:`check`."""
        self.check(project)
        self._taken[project] = self._taken.get(project, 0) + 1
        try:
            yield
        finally:
            self._taken[project] -= 1
            if not self._taken[project]:
                del self._taken[project]

    def __repr__(self) -> str:
        return f"<ProjectSlots: {self.taken} {self._what}>"
