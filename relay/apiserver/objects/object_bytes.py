"""Put a status into an object's JSON, and take parts out of it, without reading the rest. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from relay.apiserver.merging.managed_fields import JsonObject

_encoder: Final = msgspec.json.Encoder(order="sorted")
_STATUS: Final = b'"status":'


class _Parts(msgspec.Struct):
    metadata: msgspec.Raw
    status: msgspec.Raw = msgspec.Raw(b"")


_parts: Final = msgspec.json.Decoder(_Parts)


def metadata_of(shown: bytes) -> bytes:
    """Return an object's metadata as JSON."""
    return bytes(_parts.decode(shown).metadata)


def status_of(shown: bytes) -> Any:
    """Return an object's status, {} for none."""
    status = _parts.decode(shown).status
    return msgspec.json.decode(status) if status else {}


def with_status(shown: bytes, status: bytes) -> bytes:
    """Return an object with a status in place of its own; both are JSON, keys in order."""
    tail = bytes(_parts.decode(shown).status) + b"}"
    head = shown[: -len(tail)]
    if len(tail) > 1 and shown.endswith(tail) and head.endswith(_STATUS):
        return b"%b%b}" % (head, status)
    value = msgspec.json.decode(shown)
    return _encoder.encode({**value, "status": msgspec.Raw(status)})


def overlaid(stored: Any, computed: Any) -> Any:
    """Return a value with another put over it: objects by field, lists by ``name``.

    Other lists, and everything else, are replaced. Neither value is changed.
    """
    if isinstance(stored, dict) and isinstance(computed, dict):
        made = dict(stored)
        for name, own in computed.items():
            made[name] = overlaid(stored[name], own) if name in stored else own
        return made
    if isinstance(stored, list) and isinstance(computed, list):
        known, given = _by_name(stored), _by_name(computed)
        if known is None or given is None:
            return computed
        return list(overlaid(known, given).values())
    return computed


def _by_name(items: list[Any]) -> JsonObject | None:
    """Return the items of a list by their names, None if not every one has one of its own."""
    found = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            return None
        found[name] = item
    return found if len(found) == len(items) else None
