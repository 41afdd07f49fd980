"""The checkpoint: the progress of each sink, as bytes. Pure.

Rules:

* A sink has a low position per shard: the oldest position of which it may still need something.
  All before it is delivered, rejected, dropped in the ledger, or in the sink's queue on disk.
* A sink has a mark, a checksum of its object's uid, 0 if it has none: that of another object of the
  name has no entry.
* ``next`` is the first position that was not offered to sinks. A sink without an entry has that low
  position; idle sinks are named so that the next start can report sinks that no longer run.
* Points that are not complete yet are listed one by one, apart from the sinks' positions
  (:mod:`relay.pipeline.batching.unfinished`); ``start`` is where a replay reads from to see them.
* Learned state is saved beside it and covers everything before ``learned``. Later requests are read
  again for what they teach, even if no sink needs their points.
* Lows only grow, so an old checkpoint is safe: it costs duplicates, never data. A damaged or
  missing one counts as the oldest possible; an undamaged one of an unknown format raises
  :class:`relay.storage.log.frame.FormatError`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from relay.storage.log.frame import FORMAT, FormatError, is_known

Lows = Mapping[tuple[str, str], tuple[int, ...]]
"""Low positions per shard, by exporter's id and sink's name."""

Named = tuple[int, int, bytes]
"""An unfinished entry: its oldest and its newest position, and its key."""

_MAGIC = b"relay-checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Progress of the sinks; the module's rules define the fields."""

    next: int = 0
    lows: Lows = field(default_factory=dict)
    """An idle sink may have a single position for all of its shards."""
    learned: int = 0
    waiting: tuple[Named, ...] = ()
    start: int | None = None
    """Position at which a replay begins to read; None: at the oldest low position."""
    marks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Marks of the sinks that have one, by exporter's id and sink's name."""

    def low(self, exporter: str, sink: str, *, shards: int, mark: int = 0) -> tuple[int, ...]:
        """Return the low position of each shard.

        If the number of shards changed, series moved between them, so the oldest one counts for
        all.
        """
        lows = self.lows.get((exporter, sink))
        if lows is None or not self.is_same((exporter, sink), mark):
            return (self.next,) * shards
        if len(lows) != shards:
            return (min(lows),) * shards
        return lows

    def is_same(self, key: tuple[str, str], mark: int) -> bool:
        """Return False if a sink of this mark belongs to another object than that of the entry."""
        known = self.marks.get(key, 0)
        return not (known and mark) or known == mark


def mark_of(uid: str) -> int:
    """Return the mark of an object's sinks; 0 if the uid is unknown."""
    return (zlib.crc32(uid.encode()) or 1) if uid else 0


class _Entry(msgspec.Struct, array_like=True):
    exporter: str
    sink: str
    lows: tuple[int, ...]


class _Document(msgspec.Struct):
    next: int
    lows: list[_Entry]
    learned: int
    waiting: tuple[Named, ...] = ()
    start: int | None = None
    idle: tuple[tuple[str, str], ...] = ()  # since 0.2.0
    marks: tuple[int, ...] = ()  # since 0.3.0: of ``lows``, then of ``idle``


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Encode the file's content."""
    entries: list[_Entry] = []
    idle: list[tuple[str, str]] = []
    for (exporter, sink), lows in checkpoint.lows.items():
        if any(low != checkpoint.next for low in lows):
            entries.append(_Entry(exporter, sink, lows))
        else:
            idle.append((exporter, sink))
    marks: tuple[int, ...] = ()
    if checkpoint.marks:
        keys = (*((entry.exporter, entry.sink) for entry in entries), *idle)
        marks = tuple(checkpoint.marks.get(key, 0) for key in keys)
    document = _Document(
        checkpoint.next,
        entries,
        checkpoint.learned,
        checkpoint.waiting,
        checkpoint.start,
        tuple(idle),
        marks,
    )
    return seal(_MAGIC, msgspec.json.encode(document))


def decode_checkpoint(data: bytes) -> Checkpoint | None:
    """Decode the file's content; None if it is damaged. Raises FormatError."""
    body = unseal(_MAGIC, data)
    if body is None:
        return None
    document = msgspec.json.decode(body, type=_Document)
    lows = {(entry.exporter, entry.sink): entry.lows for entry in document.lows}
    lows |= dict.fromkeys(document.idle, (document.next,))
    keys = (*((entry.exporter, entry.sink) for entry in document.lows), *document.idle)
    marks = {key: mark for key, mark in zip(keys, document.marks, strict=False) if mark}
    return Checkpoint(
        document.next, lows, document.learned, document.waiting, document.start, marks
    )


def seal(magic: bytes, body: bytes) -> bytes:
    """Prefix a body with a line of magic, format and the checksum of format and body."""
    return b"%s %d %08x\n%s" % (magic, FORMAT, _checksum(FORMAT, body), body)


def unseal(magic: bytes, data: bytes) -> bytes | None:
    """Return the body of :func:`seal`; None if it is damaged. Raises FormatError."""
    head, _, body = data.partition(b"\n")
    words = head.split(b" ")
    if len(words) != 3 or words[0] != magic:
        return None
    try:
        version, crc = int(words[1]), int(words[2], 16)
    except ValueError:
        return None
    if _checksum(version, body) != crc:
        return None
    if not is_known(version):
        raise FormatError(version)
    return body


def _checksum(version: int, body: bytes) -> int:
    """Cover the format too, so that a damaged format is not taken for another one."""
    return zlib.crc32(body, zlib.crc32(b"%d" % version))
