"""The Secrets of a project: their age and use. Values are entered once and never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.apiserver.objects.kinds import served_kinds
from relay.apiserver.store.served_objects import SECRETS
from relay.runtime.event_loop import give_way
from relay.ui.api_calls import ApiProblemError, secret_path
from relay.ui.summaries import KINDS
from relay.ui.views.exporter_details import kubectl_command
from relay.ui.views.exporter_rows import read_time
from relay.ui.visit import PageProblemError, Route, Visit

_TEMPLATE: Final = "secrets.html"
_KIND: Final = next(kind for kind in served_kinds() if kind.storage_key == SECRETS)
_AT_ONCE: Final = 200
_ASKED: Final = ("namespace", "name", "key")
SECRETS_MAX: Final = 500
_REFERENCES: Final = ("secretRef", "caSecretRef", "certificateSecretRef")


@dataclass(frozen=True, slots=True)
class SecretView:
    """One Secret; ``users`` are the exporters and sinks that refer to it."""

    namespace: str
    name: str
    type: str
    keys: tuple[str, ...]
    created: float | None
    changed: float | None
    users: tuple[tuple[str, str], ...]


def secret_names(visit: Visit, namespace: str) -> set[str]:
    """Return the names of a namespace's Secrets, {} for a user who may not read them.

    Forms need them with each key that is pressed: there may be thousands, and no more is read.
    """
    if not visit.user.may("list", _KIND, ""):
        return set()
    listed = visit.shared.objects.listed(SECRETS, visit.project, namespace)
    return {one.name for one in listed}


async def show_secrets(visit: Visit) -> web.StreamResponse:
    """List the Secrets; the address may name one to enter a value for."""
    return await _show(visit, fields={name: visit.text(name, 253) for name in _ASKED})


async def save_secret(visit: Visit) -> web.StreamResponse:
    """Set one value of a Secret, which is made if there is none."""
    fields = await visit.form()
    namespace = fields.get("namespace", "").strip() or "default"
    name, key, value = (fields.get(field, "").strip() for field in ("name", "key", "value"))
    if not name or not key or not value:
        return await _show(visit, "Name, key and value are needed.", fields)
    body: dict[str, Any] = {"stringData": {key: value}}
    try:
        try:
            await visit.api.merge(secret_path(namespace, name), body)
        except ApiProblemError as problem:
            if problem.code != 404:
                raise
            made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **body}
            await visit.api.create(secret_path(namespace), made)
    except ApiProblemError as problem:
        if not visit.may_edit:
            raise
        return await _show(visit, problem.message, fields)
    return visit.leads_to(visit.url("secrets"))


async def delete_secret(visit: Visit) -> web.StreamResponse:
    """Delete a Secret that no exporter refers to."""
    namespace, name = visit.arguments["namespace"], visit.arguments["name"]
    users = (await _users(visit)).get((namespace, name), ())
    if users:
        exporters = ", ".join(sorted({exporter for exporter, _ in users}))
        raise PageProblemError(409, f'The Secret "{name}" is used by {exporters}.')
    await visit.api.delete(secret_path(namespace, name))
    return visit.leads_to(visit.url("secrets"))


async def _show(
    visit: Visit, problem: str = "", fields: Mapping[str, str] | None = None
) -> web.StreamResponse:
    listed = await visit.api.get("/api/v1/secrets", limit=str(SECRETS_MAX))
    users = await _users(visit)
    secrets = [
        _view(one, users.get((one["metadata"]["namespace"], one["metadata"]["name"]), ()))
        for one in listed["items"]
    ]
    given = fields or {}
    values = {
        "secrets": secrets,
        "more": listed["metadata"].get("remainingItemCount", 0),
        "problem": problem,
        "given": {name: given.get(name, "") for name in _ASKED},
        "command": kubectl_command(
            "create", "secret", "generic", "NAME", "--from-literal=KEY=VALUE"
        ),
        "here": "secrets",
    }
    return visit.page(_TEMPLATE, values, status=422 if problem else 200)


def _view(value: Mapping[str, Any], users: tuple[tuple[str, str], ...]) -> SecretView:
    metadata = value["metadata"]
    times = [
        time
        for one in metadata.get("managedFields", ())
        if (time := read_time(one.get("time"))) is not None
    ]
    return SecretView(
        metadata["namespace"],
        metadata["name"],
        str(value.get("type", "")),
        tuple(sorted(value.get("data") or {})),
        read_time(metadata.get("creationTimestamp")),
        max(times) if times else None,
        users,
    )


async def _users(visit: Visit) -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    """Return exporters and sinks that refer to a Secret, by its namespace and name."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    number = 0
    for kind in KINDS:
        if not visit.user.may("list", kind, ""):
            raise PageProblemError(403, f"Your role may not read {kind.plural}.")
        for one in list(visit.shared.objects.listed(kind.storage_key, visit.project)):
            number += 1
            if not number % _AT_ONCE:
                await give_way()
            spec = msgspec.json.decode(one.shown).get("spec")
            for sink in spec.get("sinks", ()) if isinstance(spec, dict) else ():
                for secret in set(_references(sink)):
                    found.setdefault((one.namespace, secret), []).append(
                        (one.name, str(sink.get("name", "")))
                    )
    return {place: tuple(users) for place, users in found.items()}


def _references(value: object) -> Iterator[str]:
    """Yield the names of Secrets that a value refers to, however deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            for field, own in one.items():
                if (
                    field in _REFERENCES
                    and isinstance(own, dict)
                    and isinstance(own.get("name"), str)
                ):
                    yield own["name"]
                else:
                    waiting.append(own)


ROUTES: Final = (
    Route("GET", "secrets", show_secrets),
    Route("POST", "secrets", save_secret),
    Route("POST", "secrets/{namespace}/{name}/delete", delete_secret),
)
