"""Decides whether and when a failed request is sent again. Pure: age and randomness are arguments.

Rules:

* Delays double from the configured backoff up to :data:`BACKOFF_S_MAX`, or the backoff if longer.
* *Equal jitter*: a delay is uniform in the upper half of its range. Full jitter would at times
  retry at once, which an endpoint that is going under needs least.
* OTLP 1.11, "OTLP/HTTP Throttling": Retry-After is honoured; of it and the backoff, the longer.
* No delay is longer than :data:`RETRY_AFTER_S_MAX`, whatever the endpoint asks for. A request
  expires on time even while it is delayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from relay.config.exporter.types import BACKOFF_S_MAX, RetrySettings

RETRY_AFTER_S_MAX = 3600.0
"""An endpoint that asks for more is tried again after an hour: it may be up long before."""

_DOUBLINGS_MAX = 32


class Randomness(Protocol):
    """The part of ``random.Random`` that is used here."""

    def uniform(self, a: float, b: float, /) -> float:
        """Return a number between a and b."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Keep the request; send it again after ``delay_s``."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Drop the request and count it under ``reason``."""

    reason: Literal["retry_disabled", "attempts_exhausted"]


@dataclass(frozen=True, slots=True)
class Expire:
    """Drop the request: it is too old to be sent again."""


Decision = TryAgain | GiveUp | Expire


def doubled_s(first_s: float, failures: int, most_s: float) -> float:
    """Return the pause after the ``failures``-th consecutive failure (1 is the first), s.

    It is ``first_s`` after the first one, then twice the last pause, and at most ``most_s``.
    """
    return min(first_s * 2.0 ** min(failures - 1, _DOUBLINGS_MAX), most_s)


def next_delay_s(
    attempts: int, *, backoff_s: float, rng: Randomness, retry_after_s: float | None = None
) -> float:
    """Return the seconds to wait after the ``attempts``-th consecutive failure (1 is the first)."""
    assert attempts > 0
    ceiling = max(BACKOFF_S_MAX, backoff_s)
    full = doubled_s(backoff_s, attempts, ceiling)
    delay = rng.uniform(full / 2, full)
    if retry_after_s is not None:
        delay = max(delay, min(retry_after_s, RETRY_AFTER_S_MAX))
    return delay


def decide(
    retry: RetrySettings,
    *,
    attempts: int,
    age_left_s: float,
    rng: Randomness,
    retry_after_s: float | None = None,
) -> Decision:
    """Decide on a request that failed ``attempts`` times, the last failure included."""
    if not retry.enabled:
        return GiveUp("retry_disabled")
    if retry.attempts_max is not None and attempts > retry.attempts_max:
        return GiveUp("attempts_exhausted")
    if age_left_s <= 0:
        return Expire()
    delay = next_delay_s(attempts, backoff_s=retry.backoff_s, rng=rng, retry_after_s=retry_after_s)
    return TryAgain(delay)
