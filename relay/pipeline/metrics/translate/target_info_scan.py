"""Finds ``target_info`` series in a request before its other series are looked at.

Series of a target that are new in the request are described by it from their first sample on,
wherever in the request it stands. Rules:

* Only what senders write is recognised: the name as one label field, or as one symbol. Anything
  else is learned in its turn.
* At most :data:`TARGETS_MAX` of a request are read ahead; the rest is learned in its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.codec.protobuf import varint
from relay.codec.remote_write.v1 import (
    ELEMENTS_MAX,
    SAMPLES_MAX,
    SERIES_FIELD,
    Pause,
    SeriesFault,
    iter_top_level,
    label_key,
    parse_series,
)
from relay.codec.remote_write.v2 import parse_request
from relay.codec.remote_write.v2 import parse_series as parse_series2
from relay.pipeline.metrics.translate.target_info import TARGET_INFO
from relay.pipeline.pacing import ENTRIES

TARGETS_MAX: Final = 1_000
"""Maximum per request; each takes some ten microseconds."""

FIND_BYTES: Final = 1 << 20
"""Bytes of a body that are searched between two pauses, in less than a millisecond."""

_NAME: Final = b"__name__"
_INFO: Final = TARGET_INFO.encode()
_NAME_FIELD: Final = label_key([("__name__", TARGET_INFO)])


def _find(body: bytes, sought: bytes, start: int, pause: Pause) -> int:
    """Return where bytes are first in the body, from ``start`` on; -1 if nowhere."""
    while True:
        stop = start + FIND_BYTES
        found = body.find(sought, start, stop + len(sought) - 1)
        if found >= 0 or stop >= len(body):
            return found
        start = stop
        pause()


def target_info_keys_v1(
    body: bytes, bytes_max: int, bounded: bool, pause: Pause
) -> Iterator[bytes]:
    """Yield the keys of a 1.0 request's ``target_info`` series, of up to ``bytes_max`` bytes.

    Raises DecodeError where the body is no request, TooLargeError where it is ``bounded`` and holds
    more entries than a request may, and what ``pause`` raises.
    """
    at = _find(body, _NAME_FIELD, 0, pause)
    if at < 0:
        return
    found: list[tuple[int, int]] = []
    # To its end, before the first one: the request may have a fault there.
    for number, start, stop in iter_top_level(
        body, entries_max=ELEMENTS_MAX if bounded else len(body), pause=pause
    ):
        if stop <= at or at < 0 or number != SERIES_FIELD:
            continue
        found.append((start, stop))
        at = _find(body, _NAME_FIELD, stop, pause) if len(found) < TARGETS_MAX else -1
    for start, stop in found:
        samples_max = SAMPLES_MAX if bounded else stop - start
        key = parse_series(body, start, stop, samples_max=samples_max, pause=pause).key
        pause()
        if len(key) <= bytes_max:
            yield key


def target_info_keys_v2(
    body: bytes, bytes_max: int, bounded: bool, pause: Pause
) -> Iterator[bytes]:
    """Yield the keys of a 2.0 request's ``target_info`` series; as :func:`target_info_keys_v1`."""
    if _find(body, _INFO, 0, pause) < 0:
        return
    entries_max = ELEMENTS_MAX if bounded else len(body)
    symbols, spans = parse_request(body, entries_max=entries_max, pause=pause)
    name, info = symbols.number(_NAME), symbols.number(_INFO)
    if name is None or info is None:
        return
    pair = varint(name) + varint(info)
    found = 0
    for count, (start, stop) in enumerate(spans):
        if not count % ENTRIES:
            pause()
        if body.find(pair, start, stop) < 0:
            continue
        samples_max = SAMPLES_MAX if bounded else stop - start
        refs = parse_series2(body, start, stop, entries_max=samples_max, pause=pause).refs
        pause()
        if (name, info) not in zip(refs[::2], refs[1::2], strict=False):
            continue
        try:
            yield symbols.key(refs, bytes_max=bytes_max)
        except SeriesFault:
            continue  # it is refused in its turn
        found += 1
        if found >= TARGETS_MAX:
            return
