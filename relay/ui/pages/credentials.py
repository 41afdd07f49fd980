"""The credentials of a draft: they go into Secrets, and nowhere else."""

from __future__ import annotations

from relay.apiserver.merging.managed_fields import JsonObject
from relay.ui.api_calls import ApiProblemError, secret_path
from relay.ui.authoring.controls import credential_row
from relay.ui.authoring.draft import Draft
from relay.ui.authoring.unfinished import authentication_of, secret_of
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
