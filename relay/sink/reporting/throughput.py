"""Measures how fast an endpoint accepts data, and whether it keeps up with what arrives. Pure.

Rules:

* A sink is *behind* while its endpoint accepts data and the oldest point has waited for longer than
  :data:`BEHIND_AGE_S` plus the batch timeout; it has caught up below :data:`CAUGHT_UP_AGE_S`.
* The reason shows the arithmetic: shards × points per request / seconds per request is the most
  that can leave. The latter two are averages over the last requests.
* The arrival rate is an average over about :data:`RATE_S`, updated about once a second.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from relay.config.exporter.records.outputs import unit_of
from relay.runtime.quantity import format_duration
from relay.telemetry.histogram import (
    LATENCY_BOUNDS_S,
    REQUEST_BOUNDS_S,
    Distribution,
    Durations,
)

BEHIND_AGE_S: Final = 60.0
CAUGHT_UP_AGE_S: Final = 20.0
RATE_S: Final = 60.0
REQUESTS_AVERAGED: Final = 20


class ThroughputStatistics(msgspec.Struct, frozen=True):
    """A snapshot.

    ``requests``: durations from sending to the verdict; ``latency``: from the opening of a batch
    until its request was delivered; ``behind``: the reason, or "".
    """

    requests: Distribution
    latency: Distribution
    behind: str


class Throughput:
    """The throughput of an output of this name. ``now`` is any monotonic clock, s."""

    __slots__ = (
        "_arriving",
        "_at",
        "_behind",
        "_latency",
        "_offered",
        "_points",
        "_requests",
        "_seconds",
        "_unit",
    )

    def __init__(self, output: str) -> None:
        self._unit = unit_of(output)
        self._requests = Durations(REQUEST_BOUNDS_S)
        self._latency = Durations(LATENCY_BOUNDS_S)
        self._seconds = 0.0
        self._points = 0.0
        self._at: float | None = None
        self._offered = 0
        self._arriving = 0.0
        self._behind = ""

    @property
    def behind(self) -> str:
        """The reason why the sink is behind, or ""."""
        return self._behind

    def answered(self, seconds: float, points: int) -> None:
        """Count a request of so many points that took so long, whatever its verdict."""
        self._requests.observe(seconds)
        weight = 1.0 / REQUESTS_AVERAGED if self._points else 1.0
        self._seconds += weight * (seconds - self._seconds)
        self._points += weight * (points - self._points)

    def delivered(self, latency_s: float) -> None:
        """Count a delivered request by how long ago its batch was opened."""
        self._latency.observe(max(0.0, latency_s))

    def watch(
        self, now: float, *, offered: int, queued: int, oldest_age_s: float, batch_timeout_s: float
    ) -> None:
        """Note offered and queued points, and the age of the oldest; called about once a second.

        ``offered`` counts since the start.
        """
        if self._at is None:
            self._at, self._offered = now, offered
        elif now > self._at:
            rate = (offered - self._offered) / (now - self._at)
            weight = 1.0 - math.exp((self._at - now) / RATE_S)
            self._arriving += weight * (rate - self._arriving)
            self._at, self._offered = now, offered
        if oldest_age_s > BEHIND_AGE_S + batch_timeout_s:
            self._behind = f"{queued:,} {self._unit} wait, the oldest for {_rounded(oldest_age_s)}"
        elif self._behind and oldest_age_s < CAUGHT_UP_AGE_S + batch_timeout_s:
            self._behind = ""

    def explain(self, concurrency: int, queued: int) -> str:
        """Return why the sink is behind, with the arithmetic; "" where it is not."""
        if not self._behind or not self._seconds:
            return self._behind
        most = concurrency * self._points / self._seconds
        shards = "1 shard" if concurrency == 1 else f"{concurrency} shards"
        text = (
            f"{self._behind}: {shards} × {self._points:.0f} {self._unit} / {self._seconds:.2g} s a "
            f"request = at most {most:,.0f} {self._unit}/s; {self._arriving:,.0f} arrive"
        )
        if most > self._arriving:
            left_s = queued / (most - self._arriving)
            return f"{text}: caught up in about {_rounded(left_s)}"
        return f"{text}: the queue grows; raise batch.maxSize or concurrency, or send it less"

    def statistics(self, concurrency: int, queued: int) -> ThroughputStatistics:
        """Return a snapshot."""
        return ThroughputStatistics(
            self._requests.statistics(),
            self._latency.statistics(),
            self.explain(concurrency, queued),
        )

    def __repr__(self) -> str:
        return f"<Throughput {self._arriving:.0f} points/s arrive{', behind' * bool(self._behind)}>"


def _rounded(seconds: float) -> str:
    return format_duration(float(max(1, round(seconds))))
