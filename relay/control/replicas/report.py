"""Pages of a relay's report on its objects' statuses: what one relay tells another. Pure.

Rules:

* A report is read in pages, each from a position on. A position is of one *epoch*, the life of a
  process; for another epoch's position the report begins anew (``reset``).
* Neighbouring versions read each other: unknown fields are ignored, fields have defaults, and an
  object that cannot be read costs no other. :data:`FORMAT` changes only where that is not enough.
* A reader trusts no page: sizes and numbers are bounded, and a status that an API server would not
  take counts as one that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

import msgspec

from relay.codec.signal_names import SIGNALS
from relay.config.exporter.load_result import ObjectKey
from relay.control.kubernetes.objects import UNREADABLE
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import LedgerCounts, ObjectStatus, SinkStatus, UsageFigures
from relay.runtime.errors import RelayError

FORMAT: Final = 1
REPORT_PATH: Final = "/replicas/report"
"""Path of the admin listener; its query has ``epoch`` and ``since``."""
PAGE_OBJECTS_MAX: Final = 250
"""Most objects in a page; encoding or decoding them takes about 5 ms."""
PAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Longest page that is read; B. An object is about 2 KiB a sink."""

NUMBER_MAX: Final = 1 << 53
TIME_S_MAX: Final = 253_402_300_799.0
"""The end of the year 9999, the last that RFC 3339 can write; s."""

_WORD: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9_,:]{0,254}[A-Za-z0-9_])?")
_NAME_CHARS_MAX: Final = 253
_COUNTS_OF: Final = attrgetter(*LedgerCounts.__struct_fields__)
_FIGURES_OF: Final = attrgetter(*UsageFigures.__struct_fields__)


class ReportError(RelayError):
    """Report that a page of a report cannot be used."""


class ReplicaStatus(msgspec.Struct, frozen=True):
    """The status that one relay gives an object; ``uid`` is "" where the object has none."""

    uid: str
    status: ObjectStatus


class ReportPage(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One page. ``objects`` are JSON texts for :func:`read_object_key` and :func:`read_status`.

    ``reset``: the report begins here. ``more``: the next page is there already; it is asked for
    with ``position``. ``draining``: uids of all objects that are gone, and whose data is still
    being sent.
    """

    format: int
    relay: str
    epoch: str
    position: int
    reset: bool = False
    more: bool = False
    objects: tuple[msgspec.Raw, ...] = ()
    gone: tuple[msgspec.Raw, ...] = ()
    draining: tuple[str, ...] = ()


class _Reported(msgspec.Struct, frozen=True, omit_defaults=True):
    key: ObjectKey
    status: ObjectStatus
    uid: str = ""


class _Head(msgspec.Struct, frozen=True):
    key: ObjectKey
    uid: str = ""


class _Body(msgspec.Struct, frozen=True):
    status: ObjectStatus


def encode_object(key: ObjectKey, one: ReplicaStatus) -> msgspec.Raw:
    """Return the JSON of an object in a page."""
    return msgspec.Raw(msgspec.json.encode(_Reported(key, one.status, one.uid)))


def encode_gone(key: ObjectKey) -> msgspec.Raw:
    """Return the JSON of an object that is gone."""
    return msgspec.Raw(msgspec.json.encode(key))


def encode_page(page: ReportPage) -> bytes:
    """Return the JSON of a page."""
    return msgspec.json.encode(page)


def decode_page(body: bytes) -> ReportPage:
    """Return a page. Raises ReportError."""
    try:
        page = msgspec.json.decode(body, type=ReportPage)
    except UNREADABLE as error:
        raise ReportError("its answer is no report") from error
    if page.format != FORMAT:
        raise ReportError(f"its report has format {page.format}, this relay reads {FORMAT}")
    return page


def read_object_key(text: msgspec.Raw) -> tuple[ObjectKey, str] | None:
    """Return key and uid of a page's object; None if it cannot be read."""
    try:
        head = msgspec.json.decode(text, type=_Head)
    except UNREADABLE:
        return None
    return head.key, head.uid


def read_gone_key(text: msgspec.Raw) -> ObjectKey | None:
    """Return the key of an object that is gone; None if it cannot be read."""
    try:
        return msgspec.json.decode(text, type=ObjectKey)
    except UNREADABLE:
        return None


def read_status(text: bytes) -> ObjectStatus | None:
    """Return the status of a page's object; None if it cannot be read."""
    try:
        status = msgspec.json.decode(text, type=_Body).status
    except UNREADABLE:
        return None
    return status if _can_be_written(status) else None


def _can_be_written(status: ObjectStatus) -> bool:
    conditions = [*status.conditions, *(one for sink in status.sinks for one in sink.conditions)]
    names = [sink.name for sink in status.sinks]
    return (
        all(_WORD.fullmatch(word) for one in conditions for word in (one.type, one.reason))
        and all(0 <= number <= NUMBER_MAX for number in _numbers(status, conditions))
        and all(0 <= at <= TIME_S_MAX for at in _times(status.sinks, conditions))
        and all(0 < len(name) <= _NAME_CHARS_MAX for name in (*names, *status.source_usage))
        and len(set(names)) == len(names)
        and all(_are_signals([one.signal for one in sink.signals]) for sink in status.sinks)
    )


def _are_signals(names: list[str]) -> bool:
    return len(set(names)) == len(names) and set(names) <= set(SIGNALS)


def _numbers(status: ObjectStatus, conditions: Iterable[StatusCondition]) -> Iterator[int]:
    yield from (one.observed_generation for one in conditions)
    usages: list[UsageFigures | None] = [status.usage, *status.source_usage.values()]
    for sink in status.sinks:
        usages.append(sink.usage)
        for ledger in (sink.ledger, *(one.ledger for one in sink.signals)):
            if ledger is not None:
                yield from _COUNTS_OF(ledger)
    for usage in usages:
        if usage is not None:
            yield from _FIGURES_OF(usage)


def _times(sinks: Iterable[SinkStatus], conditions: Iterable[StatusCondition]) -> Iterator[float]:
    yield from (one.since for one in conditions)
    for sink in sinks:
        outcomes = [(sink.last_success, sink.last_error_at)]
        outcomes += [(one.last_success, one.last_error_at) for one in sink.signals]
        yield from (at for times in outcomes for at in times if at is not None)
