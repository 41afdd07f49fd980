"""Components of a Vector configuration: their places, owners and texts.

* A component of the operator is ``export-policy:PROJECT:NAMESPACE:NAME:UID:COMPONENT``; its first
  revisions wrote ``UID:COMPONENT``.
* Notes name components and fields, never values of credentials.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from relay.config.schema.checks import dns_label_problem, dns_subdomain_problem

NAME_CHARS_MAX: Final = 63
_ID_CHARS_SHOWN_MAX: Final = 200

_FIRST_REVISION: Final = re.compile(r"([0-9a-f]{8}[0-9a-f-]{0,28}):([^:]+)")
# Vector, "Environment variables": $$, ${NAME}, ${NAME:-default}, ${NAME?message}, $NAME.
_DOLLAR: Final = re.compile(r"\$\$|\$\{[\w.]+(?::?[-?][^}]*)?\}|\$[\w.]+")
_FROM_BACKEND: Final = re.compile(r"SECRET\[[\w-]+\.[^\]\s]+\]")


@dataclass(frozen=True, slots=True)
class Note:
    """A part of a configuration that was changed or left out; ``place`` in Vector's words."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True, slots=True)
class VectorComponent:
    """A source or a sink of a configuration; ``section`` is ``sources`` or ``sinks``."""

    section: str
    id: str

    def at(self, path: str = "") -> str:
        """Return the name of a field of the component, or of itself."""
        cut = (
            self.id if len(self.id) <= _ID_CHARS_SHOWN_MAX else f"{self.id[:_ID_CHARS_SHOWN_MAX]}…"
        )
        return f'{self.section}."{cut}"' + (f".{path}" if path else "")


@dataclass(frozen=True, slots=True)
class PolicyOwner:
    """The policy of a component. ``project`` and ``uid`` are "" where the id names none."""

    project: str
    namespace: str
    name: str
    uid: str = ""

    @property
    def subject(self) -> str:
        """The policy as messages name it."""
        project = f"{self.project}/" if self.project else ""
        return f"ExportPolicy {project}{self.namespace}/{self.name}"


def owner_of(component: VectorComponent, otherwise: PolicyOwner) -> tuple[PolicyOwner, str]:
    """Return the policy of a component and its name there; ``otherwise`` if the id says nothing.

    Raises ValueError, with a message, for parts that are no names.
    """
    parts = component.id.split(":")
    if len(parts) == 6 and parts[0] == "export-policy":
        _, project, namespace, name, uid, short = parts
        problems = (
            ("project", project, dns_subdomain_problem(project)),
            ("namespace", namespace, dns_label_problem(namespace)),
            ("name", name, dns_subdomain_problem(name)),
        )
        for kind, text, problem in problems:
            if problem:
                raise ValueError(f"the {kind} in the id {problem}" if text else f"has no {kind}")
        ending = "-" + component.section.removesuffix("s")
        return PolicyOwner(project, namespace, name, uid), short.removesuffix(ending)
    first = _FIRST_REVISION.fullmatch(component.id)
    if first is not None:
        name = f"export-policy-{first[1].rstrip('-')}"
        return PolicyOwner(otherwise.project, otherwise.namespace, name, first[1]), first[2]
    return otherwise, component.id


def dns_label(text: str) -> str:
    """Return the DNS label nearest to a text."""
    label = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    return label[:NAME_CHARS_MAX].rstrip("-") or "imported"


def unresolved(text: str) -> str:
    """Return what a text refers to that only Vector's process knows, or ""."""
    if _FROM_BACKEND.search(text):
        return "refers to a secrets backend, which only Vector's process can ask"
    if any(found[0] != "$$" for found in _DOLLAR.finditer(text)):
        return "holds a variable, which only Vector's process knows"
    return ""


def without_escapes(text: str) -> str:
    """Return a text with its dollar signs as meant: Vector writes one as two."""
    return text.replace("$$", "$")


def text_of(value: object) -> str | None:
    """Return a value that is text, None for others and for text that UTF-8 cannot hold."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        return None
    return value
