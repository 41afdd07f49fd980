"""Which labels become attributes of a point, by their names alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.selector.ast import NAME

SCOPE_PREFIX: Final = "otel_scope_"

METADATA_LABELS: Final = ("__type__", "__unit__")
"""Not labels of a series but metadata (prometheus/prometheus, ``schema/labels.go``)."""

FORMS_MAX: Final = 2_048
"""Sets of label names that are remembered; at the limit all are forgotten."""

_SPECIAL_NAMES = frozenset(("service.name", "service.namespace", "service.instance.id"))
"""Labels that may be called like an attribute of the resource."""

_NO_ATTRIBUTES = frozenset((NAME, "job", "instance", *METADATA_LABELS))


def attribute_places(names: Sequence[str]) -> list[int] | None:
    """Which of these labels are attributes, sorted by name; None where it takes more than names,
    because what is translated is not the label itself."""
    if any(name in _SPECIAL_NAMES or name.startswith(SCOPE_PREFIX) for name in names):
        return None
    order = sorted((name, at) for at, name in enumerate(names) if name not in _NO_ATTRIBUTES)
    return [at for _, at in order]
