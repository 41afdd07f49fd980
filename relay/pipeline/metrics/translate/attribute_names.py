"""Decides by the names of labels alone which of them become attributes of a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.selector.matchers import NAME

SCOPE_PREFIX: Final = "otel_scope_"

METADATA_LABELS: Final = ("__type__", "__unit__")
"""Not labels of a series but metadata (prometheus/prometheus, ``schema/labels.go``)."""

TEMPLATES_MAX: Final = 2_048
"""Sets of label names that are cached; at the limit the cache is cleared."""

_SPECIAL_NAMES = frozenset(("service.name", "service.namespace", "service.instance.id"))
"""Labels that may have the name of a resource attribute."""

_NO_ATTRIBUTES = frozenset((NAME, *METADATA_LABELS))
_TARGET_LABELS = frozenset(("job", "instance"))


def attribute_places(
    names: Sequence[str], *, keeps_target_labels: bool = False
) -> list[int] | None:
    """Return the indexes of the labels that become attributes, sorted by name.

    None if values must be translated, too. ``job`` and ``instance`` are included if
    ``keeps_target_labels``.
    """
    if any(name in _SPECIAL_NAMES or name.startswith(SCOPE_PREFIX) for name in names):
        return None
    left_out = _NO_ATTRIBUTES if keeps_target_labels else _NO_ATTRIBUTES | _TARGET_LABELS
    order = sorted((name, at) for at, name in enumerate(names) if name not in left_out)
    return [at for _, at in order]
