"""The values that :mod:`relay.sink.delivery` and its shell exchange. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from relay.sink.queue.disk_index import Entry
from relay.sink.queue.payload import EncodedRequest


class Now(msgspec.Struct, frozen=True, gc=False):
    """One reading of both clocks, in s: ``wall`` for ages and dates, ``monotonic`` for waiting."""

    wall: float
    monotonic: float


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks, in s: ``wall`` and ``monotonic``."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]

    def now(self) -> Now:
        """Read both."""
        return Now(self.wall(), self.monotonic())


class OffsetHolds(Protocol):
    """Counts holders of ingest positions: the journal keeps everything from the oldest held on."""

    def hold(self, position: int) -> None:
        """Count one holder more."""

    def release(self, position: int) -> None:
        """Count one holder less."""


class Send(msgspec.Struct, frozen=True):
    """Send this request, then report the verdict."""

    request: EncodedRequest


@dataclass(frozen=True, slots=True)
class Load:
    """Read this record, then report ``loaded`` or ``load_failed``."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for ``delay_s``, or until something is enqueued (None)."""

    delay_s: float | None


FailureKind = Literal[
    "retried", "unreachable", "forbidden", "unauthorized", "rejected", "partial", "given up"
]
"""Meaning of a failure for its data.

It is kept and tried again (``retried``; ``unreachable``: no answer came; ``forbidden``: the
operator does not allow the endpoint's address; ``unauthorized``: the credentials are missing or
refused), refused for good (``rejected``), refused in part while the rest
was accepted (``partial``), or lost after the last attempt or for its age (``given up``).
"""


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The last answer of an endpoint, for status; ``at`` is wall clock, s.

    ``kind`` has a meaning for failures only.
    """

    text: str
    at: float
    kind: FailureKind = "retried"
