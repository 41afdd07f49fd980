"""Add a sink to a draft under names that are free. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final

from relay.ui.authoring.draft import Draft
from relay.ui.authoring.unfinished import secret_of

_UNFIT: Final = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, slots=True)
class TakenNames:
    """Names of the stored Exporters and Secrets of a namespace."""

    exporters: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()


def with_sink(
    draft: Draft, sink: dict[str, Any], credential: Mapping[str, str], taken: TakenNames
) -> Draft:
    """Return a draft with one sink more.

    Its Secret is a new one, so that no credential takes the place of another sink's.
    """
    sinks = draft.sinks
    made = deepcopy(sink)
    made["name"] = free_name(str(sink["name"]), (str(one.get("name", "")) for one in sinks))
    reference = secret_of(made)
    if isinstance(reference, dict) and reference:
        used = {str(secret_of(one).get("name", "")) for one in sinks}
        reference["name"] = free_name(str(reference["name"]), taken.secrets | used)
    values = {(len(sinks), key): text for key, text in credential.items() if text}
    spec = {**(draft.value.get("spec") or {}), "sinks": [*sinks, made]}
    found = draft.with_value({**draft.value, "spec": spec})
    return named(replace(found, credentials={**draft.credentials, **values}), taken.exporters)


def named(draft: Draft, taken: Iterable[str] = ()) -> Draft:
    """Return a draft with a name: a free one like that of its first sink, if it has none."""
    if draft.name or draft.is_text or not draft.sinks:
        return draft
    base = _UNFIT.sub("-", str(draft.sinks[0].get("name", "")).lower()).strip("-")
    name = free_name(base, taken)
    value = {**draft.value, "metadata": {**(draft.value.get("metadata") or {}), "name": name}}
    return draft.with_value(value)


def free_name(base: str, taken: Iterable[str]) -> str:
    """Return a name that none has: the given one, or with a number."""
    known = set(taken)
    name, number = base, 1
    while name in known:
        number += 1
        name = f"{base}-{number}"
    return name
