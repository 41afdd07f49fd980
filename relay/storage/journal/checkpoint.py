"""How far each sink had come, as bytes. Pure.

Rules:

* A sink's *low position* is the oldest one of which it may still need something; there is one for
  each of its lanes. Everything before it is delivered, refused, given up on record, or in the
  sink's queue on disk.
* ``next`` is the first position that had not been handed to the sinks at all. A sink without an
  entry had come that far; a sink that is busy with nothing is named alone, so that the next start
  can say what it misses where the sink is absent.
* What waits to become a point is named one by one, apart from the sinks' positions
  (:mod:`relay.pipeline.batching.unfinished`); a replay reads from ``start`` on, to see it whole.
* What requests teach (types of metrics, labels of objects) is saved beside it. Everything before
  ``learned`` is in there; what came later has to be read once more, whoever still needs its points.
* Lows only grow, so an old checkpoint is a safe one: it costs duplicates, never data. One that is
  damaged or missing counts as the oldest possible.
* The first line says the format, and the checksum of that and the rest. A whole checkpoint of an
  unknown format is refused, like any file of an unknown format
  (:class:`relay.storage.log.frame.FormatError`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from relay.storage.log.frame import FORMAT, FormatError, is_known

Lows = Mapping[tuple[str, str], tuple[int, ...]]
"""Low positions by exporter's id and sink's name, one for each lane."""

Named = tuple[int, int, bytes]
"""Something that waits: its oldest and its youngest position, and what it is."""

_MAGIC = b"relay-checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """See the module's rules."""

    next: int = 0
    lows: Lows = field(default_factory=dict)
    """Of one that is idle, a single position may stand for all its lanes."""
    learned: int = 0
    waiting: tuple[Named, ...] = ()
    start: int | None = None
    """Where a replay begins to read; None: the oldest low position."""

    def low(self, exporter: str, sink: str, *, shards: int) -> tuple[int, ...]:
        """Where each of a sink's lanes has to go on; a changed number of lanes deals series anew,
        so then the oldest counts for all."""
        lows = self.lows.get((exporter, sink))
        if lows is None:
            return (self.next,) * shards
        if len(lows) != shards:
            return (min(lows),) * shards
        return lows


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
    idle: tuple[tuple[str, str], ...] = ()  # earlier revisions neither write nor read it


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The file's content."""
    entries: list[_Entry] = []
    idle: list[tuple[str, str]] = []
    for (exporter, sink), lows in checkpoint.lows.items():
        if any(low != checkpoint.next for low in lows):
            entries.append(_Entry(exporter, sink, lows))
        else:
            idle.append((exporter, sink))
    document = _Document(
        checkpoint.next,
        entries,
        checkpoint.learned,
        checkpoint.waiting,
        checkpoint.start,
        tuple(idle),
    )
    return seal(_MAGIC, msgspec.json.encode(document))


def decode_checkpoint(data: bytes) -> Checkpoint | None:
    """What :func:`encode_checkpoint` made; None where it is damaged. Raises FormatError."""
    body = unseal(_MAGIC, data)
    if body is None:
        return None
    document = msgspec.json.decode(body, type=_Document)
    lows = {(entry.exporter, entry.sink): entry.lows for entry in document.lows}
    lows |= dict.fromkeys(document.idle, (document.next,))
    return Checkpoint(document.next, lows, document.learned, document.waiting, document.start)


def seal(magic: bytes, body: bytes) -> bytes:
    """The body below a line that says what it is, its format, and the checksum of both."""
    return b"%s %d %08x\n%s" % (magic, FORMAT, _checksum(FORMAT, body), body)


def unseal(magic: bytes, data: bytes) -> bytes | None:
    """The body that was sealed; None where it is damaged. Raises FormatError."""
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
    """Of the format too: one that is damaged is not another one."""
    return zlib.crc32(body, zlib.crc32(b"%d" % version))
