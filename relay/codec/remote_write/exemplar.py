"""Decode remote-write exemplars to OTLP exemplars.

Rules (compatibility specification, "Exemplars"):

* Labels ``trace_id`` and ``span_id`` become ids if they are 32 and 16 hexadecimal digits and not
  all zero (W3C Trace Context: a zero id is none); otherwise they stay labels. All other labels
  become filtered attributes, unaltered.
* An exemplar that is too large, repeats a label, has an unnamed label or invalid UTF-8, or has no
  time is dropped and counted; its series is unaffected.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from relay.codec.otlp.data_points import Exemplar
from relay.codec.protobuf import (
    BYTES,
    FIELDS_MAX,
    FIXED64,
    VARINT,
    iter_fields,
    read_varint,
    signed64,
)

EXEMPLAR_FIELDS_MAX = 256
"""Most fields of one exemplar: its labels, a value and a time."""

EXEMPLAR_BYTES_MAX = 1024
"""Most bytes of names and values together. OpenMetrics allows 128 characters ("Exemplars")."""

_HEX = re.compile(rb"[0-9a-fA-F]+\Z")
_TIME_MS_MAX = (2**63 - 1) // 1_000_000
_IDS = {b"trace_id": 16, b"span_id": 8}


def parse_exemplar(data: bytes, start: int, stop: int) -> Exemplar | None:
    """Decode the Exemplar message of remote write 1.0 at ``data[start:stop]``.

    Return None if it is unusable. Raise DecodeError if it is not protobuf.
    """
    labels = []
    value = bytes(8)
    time_ms = 0
    for number, wire_type, _, payload, end in iter_fields(
        data, start, stop, fields_max=EXEMPLAR_FIELDS_MAX
    ):
        if number == 1 and wire_type == BYTES:
            labels.append(read_label(data, payload, end))
        elif number == 2 and wire_type == FIXED64:
            value = data[payload:end]
        elif number == 3 and wire_type == VARINT:
            time_ms = signed64(read_varint(data, payload, end)[0])
    return make_exemplar(labels, value, time_ms)


def make_exemplar(
    labels: Iterable[tuple[bytes, bytes]], value: bytes, time_ms: int
) -> Exemplar | None:
    """Make an exemplar of its labels, the bytes of a double, and a time in ms; None if unusable."""
    if not 0 < time_ms <= _TIME_MS_MAX:
        return None
    ids = dict.fromkeys(_IDS, b"")
    attributes: dict[str, str] = {}
    size = 0
    for name, text in labels:
        size += len(name) + len(text)
        if size > EXEMPLAR_BYTES_MAX:
            return None
        if name in ids and not ids[name] and _is_id(text, _IDS[name]):
            ids[name] = bytes.fromhex(text.decode())
            continue
        try:
            key = name.decode()
            if not key or key in attributes:
                return None
            attributes[key] = text.decode()
        except UnicodeDecodeError:
            return None
    number = struct.unpack("<d", value)[0]
    return Exemplar(
        time_ms * 1_000_000,
        number,
        ids[b"trace_id"],
        ids[b"span_id"],
        tuple(sorted(attributes.items())),
    )


def _is_id(text: bytes, size: int) -> bool:
    return len(text) == 2 * size and _HEX.match(text) is not None and text.strip(b"0") != b""


def read_label(data: bytes, start: int, stop: int) -> tuple[bytes, bytes]:
    """Return name and value of the Label message at ``data[start:stop]``. Raises DecodeError."""
    name = value = b""
    for number, wire_type, _, payload, end in iter_fields(data, start, stop, fields_max=FIELDS_MAX):
        if wire_type == BYTES and number == 1:
            name = data[payload:end]
        elif wire_type == BYTES and number == 2:
            value = data[payload:end]
    return name, value
