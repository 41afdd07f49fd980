"""The credentials of a draft: they go into Secrets, and nowhere else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from relay.apiserver.merging.managed_fields import JsonObject
from relay.ui.api_calls import ApiProblemError, secret_path
from relay.ui.authoring.controls import credential_row, sink_kind_of
from relay.ui.authoring.draft import Draft, get
from relay.ui.visit import Visit


async def store_credentials(visit: Visit, draft: Draft) -> None:
    """Put the credentials that were entered into their Secrets."""
    for name, values in credentials_by_secret(draft).items():
        body: JsonObject = {"stringData": values}
        try:
            await visit.api.merge(secret_path(draft.namespace, name), body)
        except ApiProblemError as problem:
            if problem.code != 404:
                raise
            made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **body}
            await visit.api.create(secret_path(draft.namespace), made)


def credentials_by_secret(draft: Draft) -> dict[str, dict[str, str]]:
    """Return the values that were entered, by Secret and by key there."""
    found: dict[str, dict[str, str]] = {}
    for (index, key), text in draft.credentials.items():
        if index >= len(draft.sinks):
            continue
        reference = secret_of(draft.sinks[index])
        known = {name for name, _ in credential_row(authentication_of(draft.sinks[index])).keys}
        name = str(reference.get("name", ""))
        if name and key in known:
            stored = str(reference.get("key", "")) or key
            found.setdefault(name, {})[stored] = text
    return found


def missing_credentials(draft: Draft, secrets: Collection[str]) -> dict[str, str]:
    """Return what a form has to say of credentials that are neither entered nor stored.

    As YAML an Exporter can be stored before its Secret.
    """
    found = {}
    for index, sink in enumerate(draft.sinks):
        name = str(secret_of(sink).get("name", ""))
        if not name or name in secrets:
            continue
        for key, _ in credential_row(authentication_of(sink)).keys:
            if not draft.credentials.get((index, key)):
                said = f'enter it: there is no Secret "{name}" yet'
                found[credential_path(index, key)] = said
    return found


def credential_path(index: int, key: str) -> str:
    """Return the name of the control for one value of a sink's Secret."""
    return f"credential[{index}].{key}"


def secret_of(sink: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the reference of a sink to its Secret."""
    found = get(sink, f"{sink_kind_of(sink).field}.authentication.secretRef")
    return found if isinstance(found, Mapping) else {}


def with_reference(sink: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sink with another reference to its Secret."""
    field = sink_kind_of(sink).field
    authentication = {**sink[field]["authentication"], "secretRef": reference}
    return {**sink, field: {**sink[field], "authentication": authentication}}


def authentication_of(sink: Mapping[str, Any]) -> object:
    """Return the type of a sink's authentication, None without one."""
    return get(sink, f"{sink_kind_of(sink).field}.authentication.type")
