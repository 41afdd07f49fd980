"""Answer the subresource ``history``: the last hour and the losses of a day of each sink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.kinds import HISTORY, ResourceKind
from relay.apiserver.store.event_ring import StoredObject
from relay.config.exporter.types import id_of
from relay.control.kubernetes.status_body import written_time
from relay.control.status.sink_history import HistoryMinute, SinkHistories, SinkHistory

_MILLI: Final = 3
"""Digits behind the point: rates and ages are told to a thousandth."""


class HistoryAnswers:
    """Answers from the histories of this relay; ``clock`` is the wall clock, s."""

    def __init__(self, histories: SinkHistories, clock: Callable[[], float]) -> None:
        self._histories = histories
        self._clock = clock

    def __repr__(self) -> str:
        return f"<HistoryAnswers {self._histories!r}>"

    def __call__(self, kind: ResourceKind, one: StoredObject) -> JsonObject:
        """Return the history of an object, without sinks where nothing was noted."""
        exporter = id_of(kind.kind, one.project, one.namespace, one.name)
        now = self._clock()
        found = sorted(self._histories.of(exporter).items())
        return {
            "kind": dict(kind.read_only)[HISTORY],
            "apiVersion": kind.api_version,
            "metadata": {"name": one.name, "namespace": one.namespace},
            "sinks": [_sink(name, history, now) for name, history in found],
        }


def _sink(name: str, history: SinkHistory, now: float) -> JsonObject:
    made: JsonObject = {"name": name, "since": written_time(history.began_at)}
    if history.points_per_s is not None:
        made["pointsPerSecond"] = round(history.points_per_s, _MILLI)
    if history.oldest_s is not None:
        made["oldestPointAgeSeconds"] = round(history.oldest_s, _MILLI)
    made["lostInDay"] = history.lost_in_day(now)
    made["minutes"] = [_minute(one) for one in history.minutes(now)]
    return made


def _minute(one: HistoryMinute) -> JsonObject:
    return {
        "time": written_time(one.at),
        "delivered": round(one.delivered),
        "requests": one.requests,
        "requestSeconds": round(one.request_s, _MILLI),
    }
