"""What :mod:`relay.sink.delivery` tells its shell to do, and what it has to say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from relay.sink.queue.disk_index import Entry
from relay.sink.queue.payload import EncodedRequest


class Now(NamedTuple):
    """One reading of both clocks, in s: ``wall`` for ages and dates, ``monotonic`` for waiting."""

    wall: float
    monotonic: float


class Send(NamedTuple):
    """Send this payload, then settle it."""

    payload: EncodedRequest


@dataclass(frozen=True, slots=True)
class Load:
    """Read this record, then say :meth:`Delivery.loaded` or :meth:`Delivery.not_loaded`."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing to do for ``delay_s``, or until something is offered (None)."""

    delay_s: float | None


@dataclass(frozen=True, slots=True)
class LastEvent:
    """Something an endpoint said or did, for status; ``at`` is wall clock, s."""

    text: str
    at: float
