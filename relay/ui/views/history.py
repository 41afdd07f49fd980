"""Read the API's answer with the last hour and day of an exporter's sinks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from relay.control.status.sink_history import HistoryMinute


class _Minute(msgspec.Struct, frozen=True, rename="camel"):
    time: datetime
    delivered: int
    requests: int
    request_seconds: float


class ShownHistory(msgspec.Struct, frozen=True, rename="camel"):
    """The history of one sink; the age of the oldest point is None where none waits."""

    name: str
    since: datetime
    lost_in_day: int
    minutes: tuple[_Minute, ...]
    oldest_point_age_seconds: float | None = None

    def columns(self) -> tuple[HistoryMinute, ...]:
        """Return the minutes; times are wall clock, s."""
        return tuple(
            HistoryMinute(one.time.timestamp(), one.delivered, one.requests, one.request_seconds)
            for one in self.minutes
        )


def histories_of(answer: Mapping[str, Any]) -> dict[str, ShownHistory]:
    """Return the histories of an answer by the names of the sinks."""
    found = msgspec.convert(answer["sinks"], tuple[ShownHistory, ...])
    return {one.name: one for one in found}
