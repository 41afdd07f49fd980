"""Secrets as the API shows and takes them: every value reads as ``****``.

A write with that value keeps the stored one, and is refused where none is stored: it would store
the mask. The annotation in which kubectl keeps what it applied
is stored masked.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from relay.apiserver.merging.field_set import canonical
from relay.apiserver.merging.managed_fields import LAST_APPLIED, JsonObject

MASK_TEXT: Final = "****"
MASK: Final = base64.b64encode(MASK_TEXT.encode()).decode()
_REFUSED_ANNOTATION: Final = "{}"


def masked(secret: JsonObject) -> JsonObject:
    """Return a Secret without its values."""
    if not secret.get("data"):
        return secret
    return {**secret, "data": dict.fromkeys(secret["data"], MASK)}


def with_text_values(secret: JsonObject) -> JsonObject:
    """Return a Secret whose ``stringData`` has become ``data``."""
    if "stringData" not in secret:
        return secret
    made = {key: value for key, value in secret.items() if key != "stringData"}
    text = secret["stringData"] or {}
    if text:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in text.items()}
        made["data"] = {**(secret.get("data") or {}), **data}
    return made


def with_stored_values(secret: JsonObject, stored: JsonObject | None) -> JsonObject:
    """Return a Secret in which masked values of keys that are stored are the stored ones."""
    known = (stored or {}).get("data") or {}
    made = dict(secret)
    own = made.get("data")
    if isinstance(own, dict) and MASK in own.values():
        made["data"] = {
            key: known.get(key, value) if value == MASK else value for key, value in own.items()
        }
    text = made.get("stringData")
    if isinstance(text, dict) and MASK_TEXT in text.values():
        kept = {key for key, value in text.items() if value == MASK_TEXT and key in known}
        made["stringData"] = {key: value for key, value in text.items() if key not in kept}
        made["data"] = {**(made.get("data") or {}), **{key: known[key] for key in sorted(kept)}}
        if not made["stringData"]:
            del made["stringData"]
    return made


def with_masked_annotation(secret: JsonObject) -> JsonObject:
    """Return a Secret whose last-applied annotation has no values.

    An annotation that is no JSON object might hold anything: it becomes ``{}``.
    """
    annotations = secret.get("metadata", {}).get("annotations") or {}
    text = annotations.get(LAST_APPLIED)
    if not isinstance(text, str):
        return secret
    changed = {**annotations, LAST_APPLIED: _masked_text(text)}
    return {**secret, "metadata": {**secret["metadata"], "annotations": changed}}


def _masked_text(text: str) -> str:
    try:
        applied: Any = json.loads(text)
    except (ValueError, RecursionError):
        return _REFUSED_ANNOTATION
    if not isinstance(applied, dict):
        return _REFUSED_ANNOTATION
    for part, mask in (("data", MASK), ("stringData", MASK_TEXT)):
        if isinstance(applied.get(part), dict):
            applied[part] = dict.fromkeys(applied[part], mask)
        elif part in applied:
            applied[part] = {}
    return canonical(applied) + "\n"
