"""Builds selectors from the valid ``resourceSelectors`` of a source."""

from __future__ import annotations

from typing import Any

from relay.config.exporter.kind_spellings import read_kinds
from relay.selector.resources.label_selector import LabelSelector, Requirement, ResourceSelector


def build_resource_selectors(entries: list[dict[str, Any] | None]) -> tuple[ResourceSelector, ...]:
    """Return the selectors of the field ``resourceSelectors``; None is an entry with a fault."""
    return tuple(
        ResourceSelector(
            _label_selector(one.get("namespaceSelector")),
            _label_selector(one.get("labelSelectors")) or LabelSelector(),
            read_kinds(one.get("kinds", ())),
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
        Requirement(one.get("key", ""), one.get("operator", "In"), _words(one))
        for one in values.get("matchExpressions", ())
        if one is not None
    ]
    return LabelSelector(tuple(requirements))


def _words(values: dict[str, Any]) -> tuple[str, ...]:
    """Return the values of a requirement, each once: apimachinery makes a set of them."""
    return tuple(dict.fromkeys(word for word in values.get("values", ()) if word is not None))
