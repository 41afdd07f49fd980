"""Declare what the writers of statuses need of the objects that are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from relay.config.exporter.load_result import ObjectKey, ObjectResult
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import ObjectStatus


class JudgedObjects(Protocol):
    """Objects with the statuses that this relay gives, or all relays together.

    :class:`~relay.control.status.board.StatusBoard` is the former.
    """

    def subscribe(self, listener: Callable[[Sequence[ObjectKey]], None]) -> None:
        """Call ``listener`` with the objects whose conditions may have changed, and those gone."""

    async def look(self) -> list[ObjectKey]:
        """Judge what may have changed."""

    def objects(self) -> Iterator[ObjectKey]:
        """Return all objects."""

    def result(self, key: ObjectKey) -> ObjectResult | None:
        """Return what was loaded of an object; None: it is gone."""

    def status(self, key: ObjectKey) -> ObjectStatus | None:
        """Return the status of an object as of now; None if it is not judged, or gone."""

    def seed(
        self,
        key: ObjectKey,
        uid: str,
        conditions: tuple[StatusCondition, ...],
        sinks: Mapping[str, tuple[StatusCondition, ...]],
    ) -> None:
        """Go on from the conditions that an object's stored status has."""
