"""Builds selectors from the valid ``resourceSelectors`` of a source."""

from __future__ import annotations

from typing import Any

from relay.selector.resources.label_selector import (
    ANY,
    KindSelector,
    LabelSelector,
    Requirement,
    ResourceSelector,
)


def build_resource_selectors(entries: list[dict[str, Any] | None]) -> tuple[ResourceSelector, ...]:
    """Return the selectors of the field ``resourceSelectors``; None is an entry with a fault."""
    return tuple(
        ResourceSelector(
            _label_selector(one.get("namespaceSelector")),
            _label_selector(one.get("labelSelectors")) or LabelSelector(),
            tuple(_kind(kind) for kind in one.get("kinds", ()) if kind is not None),
        )
        for one in entries
        if one is not None
    )


def _label_selector(values: dict[str, Any] | None) -> LabelSelector | None:
    """Return a Kubernetes LabelSelector; None where it is absent."""
    if values is None:
        return None
    labels = values.get("matchLabels", {})
    requirements = [Requirement(name, "In", (value,)) for name, value in labels.items()]
    requirements += [
        Requirement(one.get("key", ""), one.get("operator", "In"), _words(one, "values"))
        for one in values.get("matchExpressions", ())
        if one is not None
    ]
    return LabelSelector(tuple(requirements))


def _kind(values: dict[str, Any]) -> KindSelector:
    """Return an entry of ``kinds``; an omitted field selects any value.

    The proposal writes both ``resources`` and ``kind`` for the names of kinds.
    """
    groups, resources, kinds = (_words(values, key) for key in ("apiGroups", "resources", "kind"))
    return KindSelector(groups or (ANY,), resources or kinds or (ANY,))


def _words(values: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return a list's words, each once: apimachinery makes a set of them."""
    return tuple(dict.fromkeys(word for word in values.get(key, ()) if word is not None))
