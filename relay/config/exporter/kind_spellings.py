"""Read the spellings of ``kinds`` in resource selectors as one model, the KindSelector.

* ``{group, kind}``: one API group and one Kind.
* ``{apiGroups, resources}``: lists of groups and of plurals.
* ``{apiGroups, kind}``: the same with ``kind`` for the list.

A Kind, its singular and its plural mean the same, in any case; ``*`` means any, as does a field
that is left out. The empty text is the core group. The values are valid except that None stands for
an entry with a fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.selector.resources.label_selector import ANY, KindSelector


def read_group_kind(values: Mapping[str, Any]) -> KindSelector:
    """Read ``{group: gateway.networking.k8s.io, kind: Gateway}``."""
    return KindSelector(_one(values, "group"), _one(values, "kind"))


def read_groups_resources(values: Mapping[str, Any]) -> KindSelector:
    """Read ``{apiGroups: [gateway.networking.k8s.io], resources: [gateways]}``."""
    return KindSelector(_several(values, "apiGroups"), _several(values, "resources"))


def read_groups_kinds(values: Mapping[str, Any]) -> KindSelector:
    """Read ``{apiGroups: [gateway.networking.k8s.io], kind: [gateways]}``."""
    return KindSelector(_several(values, "apiGroups"), _several(values, "kind"))


def read_kind(values: Mapping[str, Any]) -> KindSelector:
    """Read an entry in any of the three spellings, told by its fields and by their types."""
    if "group" in values or isinstance(values.get("kind"), str):
        return read_group_kind(values)
    return read_groups_kinds(values) if "kind" in values else read_groups_resources(values)


def read_kinds(
    entries: Mapping[str, Any] | Sequence[Mapping[str, Any] | None],
) -> tuple[KindSelector, ...]:
    """Read the field ``kinds``: a list of entries in any spelling, or one entry without a list."""
    found = (entries,) if isinstance(entries, Mapping) else entries
    return tuple(read_kind(one) for one in found if one is not None)


def _one(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    word = values.get(key)
    return (ANY,) if word is None else (str(word),)


def _several(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list's words, each once: apimachinery makes a set of them."""
    return tuple(dict.fromkeys(word for word in values.get(key, ()) if word is not None)) or (ANY,)
