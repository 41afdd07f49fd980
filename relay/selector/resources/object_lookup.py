"""Interface of resource selectors to an inventory: labels of namespaces and resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec

from relay.selector.resources.label_selector import sanitized


class ObjectRef(NamedTuple):
    """An object as a sample identifies it; every part may be "". ``kinds`` are synonyms."""

    group: str
    kinds: frozenset[str]
    namespace: str
    name: str
    uid: str


class ObjectLabels(msgspec.Struct, frozen=True):
    """Labels of one object, with keys as in its manifest if ``exact``, else sanitized."""

    labels: Mapping[str, str]
    exact: bool = True

    def get(self, key: str) -> str | None:
        """Return the value of a label by its manifest key, None if the object does not have it."""
        return self.labels.get(key if self.exact else sanitized(key))


class Objects(Protocol):
    """The objects of one project."""

    def namespace(self, name: str) -> ObjectLabels | None:
        """Return the labels of a namespace; None if unknown."""

    def resource(self, ref: ObjectRef) -> ObjectLabels | None:
        """Return the labels of any other object; None if unknown."""


class NoObjects:
    """An empty inventory."""

    def namespace(self, name: str) -> ObjectLabels | None:
        """Return None: no namespace is known."""
        del name
        return None

    def resource(self, ref: ObjectRef) -> ObjectLabels | None:
        """Return None: no resource is known."""
        del ref
        return None
