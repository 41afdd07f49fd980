"""Find what a form still lacks: credentials, and words in place of the customer's own. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from relay.ui.authoring.backends import BACKENDS
from relay.ui.authoring.controls import credential_row, sink_kind_of
from relay.ui.authoring.draft import Draft, get

_CAPITALS: Final = re.compile(r"[A-Z]{4,}")
_STAND_INS: Final = frozenset(word for one in BACKENDS for word in _CAPITALS.findall(one.endpoint))
"""Words in the endpoints of backends, such as ZONE."""


def unfinished(draft: Draft, secrets: Collection[str]) -> dict[str, str]:
    """Return what a form has to say before it is stored, by path; ``secrets`` are stored.

    As YAML an Exporter can be stored before its Secret.
    """
    found = {}
    for index, sink in enumerate(draft.sinks):
        path = f"{sink_kind_of(sink).field}.endpoint"
        words = _STAND_INS.intersection(_CAPITALS.findall(str(get(sink, path) or "")))
        if words:
            found[f"spec.sinks[{index}].{path}"] = f"put your own in the place of {min(words)}"
        name = str(secret_of(sink).get("name", ""))
        if not name or name in secrets:
            continue
        for key, _ in credential_row(authentication_of(sink)).keys:
            if not draft.credentials.get((index, key)):
                said = f'enter it: there is no Secret "{name}" yet'
                found[credential_path(index, key)] = said
    return found


def credential_path(index: int, key: str) -> str:
    """Return the name of the control for one value of a sink's Secret."""
    return f"credential[{index}].{key}"


def secret_of(sink: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the reference of a sink to its Secret."""
    found = get(sink, f"{sink_kind_of(sink).field}.authentication.secretRef")
    return found if isinstance(found, Mapping) else {}


def authentication_of(sink: Mapping[str, Any]) -> object:
    """Return the type of a sink's authentication, None for none."""
    return get(sink, f"{sink_kind_of(sink).field}.authentication.type")
