"""Check the spelling of one entry of ``kinds``: ``{group, kind}``, or lists of groups and kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from relay.config.schema.words import kind_of
from relay.config.yaml.document import Where, shown

_Faults = Iterator[tuple[Where, str]]
_KIND: Final = re.compile(r"[*]|[A-Z][A-Za-z0-9]{0,62}")
_KIND_IN_LIST: Final = re.compile(r"[*]|[A-Za-z][A-Za-z0-9]{0,62}")
_KINDS_MAX: Final = 20
_OTHER_SPELLING: Final = (
    "belongs to another spelling than group: write group and kind, or apiGroups with resources or "
    "kind"
)


def _other_word(entry: Any) -> str:
    """Return the first field of the spelling in lists, "" for none."""
    return next((word for word in ("apiGroups", "resources") if word in entry), "")


def spelling_of_kind(entry: Any) -> _Faults:
    """Find what is wrong with the spelling of one entry of ``kinds``."""
    kind = entry.get("kind")
    if "group" in entry:
        other = _other_word(entry)
        if other:
            yield (other,), _OTHER_SPELLING
        else:
            yield from _one_kind(kind)
    elif isinstance(kind, str) and not _other_word(entry):
        yield ("group",), 'is required beside kind; "" stands for the core group'
    elif "resources" in entry and kind is not None:
        yield ("kind",), "means the same as resources: remove one"
    elif kind is not None:
        yield from _list_of_kinds(kind)
    elif not _other_word(entry):
        yield (), 'needs group and kind; "*" stands for all Kinds of the group'


def _one_kind(kind: Any) -> _Faults:
    where = ("kind",)
    if kind is None:
        yield where, 'is required beside group; "*" stands for all Kinds of the group'
    elif not isinstance(kind, str):
        found = kind_of(kind)
        yield where, f"must be a string beside group, not {found}: write one entry for each Kind"
    elif not _KIND.fullmatch(kind):
        wanted = 'must be a Kind such as "Gateway", or "*" for all of the group'
        yield where, f"{wanted}, not {shown(kind)}"


def _list_of_kinds(kind: Any) -> _Faults:
    if not isinstance(kind, list):
        yield ("kind",), f"must be a list beside apiGroups, not {kind_of(kind)}"
        return
    if not 1 <= len(kind) <= _KINDS_MAX:
        yield ("kind",), f"must have 1 to {_KINDS_MAX} entries, not {len(kind)}"
        return
    for index, one in enumerate(kind):
        where = ("kind", index)
        if not isinstance(one, str):
            yield where, f"must be a string, not {kind_of(one)}"
        elif not _KIND_IN_LIST.fullmatch(one):
            wanted = 'must be a kind such as "gateways" or "Gateway", or "*" for any'
            yield where, f"{wanted}, not {shown(one)}"
        elif one in kind[:index]:
            yield where, f"{shown(one)} is listed twice"
