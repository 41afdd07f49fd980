"""Which labels become attributes of a point, by their names alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.selector.matchers import NAME

SCOPE_PREFIX: Final = "otel_scope_"

METADATA_LABELS: Final = ("__type__", "__unit__")
"""Not labels of a series but metadata (prometheus/prometheus, ``schema/labels.go``)."""

FORMS_MAX: Final = 2_048
"""Sets of label names that are remembered; at the limit all are forgotten."""

_SPECIAL_NAMES = frozenset(("service.name", "service.namespace", "service.instance.id"))
"""Labels that may be called like an attribute of the resource."""

_NO_ATTRIBUTES = frozenset((NAME, *METADATA_LABELS))
_TARGET_LABELS = frozenset(("job", "instance"))


def attribute_places(
    names: Sequence[str], *, keeps_target_labels: bool = False
) -> list[int] | None:
    """Which of these labels are attributes, sorted by name; None where it takes more than names,
    because what is translated is not the label itself.

    ``job`` and ``instance`` are among them where ``keeps_target_labels``.
    """
    if any(name in _SPECIAL_NAMES or name.startswith(SCOPE_PREFIX) for name in names):
        return None
    left_out = _NO_ATTRIBUTES if keeps_target_labels else _NO_ATTRIBUTES | _TARGET_LABELS
    order = sorted((name, at) for at, name in enumerate(names) if name not in left_out)
    return [at for _, at in order]
