"""What resource selectors ask of an inventory: the labels of namespaces and resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from relay.selector.resources.label_selector import sanitized


class ObjectRef(NamedTuple):
    """An object as a sample names it; every part may be "". ``kinds`` are names of one kind."""

    group: str
    kinds: frozenset[str]
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class ObjectLabels:
    """The labels of one object. ``exact``: keys are as in its manifest; else as Prometheus can have
    them, and so are the keys that are asked for."""

    labels: Mapping[str, str]
    exact: bool = True

    def get(self, key: str) -> str | None:
        """The value of a label, None where the object has no such label."""
        return self.labels.get(key if self.exact else sanitized(key))


class Objects(Protocol):
    """The objects of one project."""

    def namespace(self, name: str) -> ObjectLabels | None:
        """The labels of a namespace; None where it is not known."""

    def resource(self, ref: ObjectRef) -> ObjectLabels | None:
        """The labels of any other object; None where it is not known."""


class NoObjects:
    """An empty inventory."""

    def namespace(self, name: str) -> ObjectLabels | None:
        """Nothing is known."""
        del name
        return None

    def resource(self, ref: ObjectRef) -> ObjectLabels | None:
        """Nothing is known."""
        del ref
        return None
