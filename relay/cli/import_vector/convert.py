"""Turns Vector configurations into ExportPolicies and their Secrets.

* Carried over: sources ``prometheus_scrape`` of a federation endpoint with ``match[]``, and sinks
  ``prometheus_remote_write``. Everything else is named in :attr:`VectorImport.notes`.
* Each policy of the operator becomes an object of its own again; all other components become one
  policy together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from relay.cli.import_vector.components import (
    Note,
    PolicyOwner,
    VectorComponent,
    dns_label,
    owner_of,
)
from relay.cli.import_vector.policy import ImportedPolicy, PolicyBuilder
from relay.config.schema.words import kind_of

SOURCE_TYPE: Final = "prometheus_scrape"
SINK_TYPE: Final = "prometheus_remote_write"
_TYPE_CHARS_MAX: Final = 64
_UID_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class VectorImport:
    """The outcome of a conversion."""

    policies: tuple[ImportedPolicy, ...]
    notes: tuple[Note, ...]


def import_vector(
    config: Mapping[str, Any], *, name: str = "imported", namespace: str = "default"
) -> VectorImport:
    """Return the policies of a configuration, or of several merged into one.

    ``name`` and ``namespace`` are for components whose ids name no policy. Never raises for the
    configuration's content.
    """
    notes: list[Note] = []
    builders: dict[PolicyOwner, PolicyBuilder] = {}
    named: dict[PolicyOwner, PolicyOwner] = {}
    fallback = PolicyOwner("", namespace, dns_label(name))
    notes += [
        Note(section, "is Vector's own and has no place in an ExportPolicy")
        for section in config
        if section not in ("sources", "sinks")
    ]
    for section in ("sources", "sinks"):
        for component, settings in _components(config, section, notes):
            try:
                owner, short = owner_of(component, fallback)
            except ValueError as error:
                notes.append(Note(component.at(), f"{error}; it is not carried over"))
                continue
            if owner not in builders:
                builders[owner] = PolicyBuilder(_named_apart(owner, named, notes), notes)
            if section == "sources":
                builders[owner].add_source(short, component, settings)
            else:
                builders[owner].add_sink(short, component, settings)
    policies = [policy for builder in builders.values() for policy in builder.finished()]
    return VectorImport(tuple(policies), tuple(notes))


def _named_apart(
    owner: PolicyOwner, named: dict[PolicyOwner, PolicyOwner], notes: list[Note]
) -> PolicyOwner:
    """Return the owner under a name that no other has; ``named`` holds those without their UID.

    The operator's Secret of a policy that was deleted and created again may still be there.
    """
    plain = replace(owner, uid="")
    if plain in named:
        apart = replace(plain, name=f"{owner.name}-{dns_label(owner.uid)[:_UID_CHARS].rstrip('-')}")
        number = 2
        while apart in named:
            apart = replace(apart, name=f"{owner.name}-{number}")
            number += 1
        message = (
            f"stands here twice, with UIDs {named[plain].uid} and {owner.uid}: the second is "
            f"called {apart.name} now; remove the one that was deleted"
        )
        notes.append(Note(owner.subject, message))
        plain = apart
    named[plain] = owner
    return replace(plain, uid=owner.uid)


def _components(
    config: Mapping[str, Any], section: str, notes: list[Note]
) -> Iterator[tuple[VectorComponent, Mapping[str, Any]]]:
    """Yield the components of the type that is carried over; note the others."""
    wanted = SOURCE_TYPE if section == "sources" else SINK_TYPE
    components = config.get(section, {})
    if not isinstance(components, Mapping):
        message = f"must hold components by their ids, not {kind_of(components)}"
        notes.append(Note(section, message))
        return
    for identifier, settings in components.items():
        component = VectorComponent(section, str(identifier))
        if not isinstance(settings, Mapping):
            message = f"must hold settings, not {kind_of(settings)}"
            notes.append(Note(component.at(), message))
            continue
        kind = settings.get("type")
        if kind == wanted:
            yield component, settings
        elif isinstance(kind, str) and len(kind) <= _TYPE_CHARS_MAX:
            message = f"{kind!r} is not carried over, only {wanted}"
            notes.append(Note(component.at("type"), message))
        else:
            message = f"must be {wanted} to be carried over, not {kind_of(kind)}"
            notes.append(Note(component.at("type"), message))
