"""Every verb on every resource by every wrong user: the right Status, and no name leaks.

The requests come from the server's own discovery, so a kind or verb that is added is in it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from relay.apiserver.access.oidc import KeySource, OidcAuthentication
from relay.apiserver.http.actions import ActionRequest
from relay.apiserver.objects.kinds import ResourceKind, action_kinds
from relay.apiserver.store.event_ring import StoredObject
from relay.apiserver.store.served_objects import ServedObjects
from relay.config.settings.api import OidcSettings
from tests.kit.apiserver.attempts import (
    READING,
    Attempt,
    RawAnswer,
    ServedResource,
    answered,
    attempts,
    served_resources,
)
from tests.kit.apiserver.issuer import AUDIENCE, ISSUER, Issuer
from tests.kit.apiserver.running import (
    ADMIN,
    EDITOR,
    RELAY,
    VIEWER,
    ApiUser,
    LocalApi,
    exporter,
    local_api,
    tokens,
)

pytestmark = [pytest.mark.slow]

THERE, MISSING = "there-it-is", "nowhere-now"  # of one length, as the answers must be
PROJECT, STRANGE = "acme", "nope"
STRANGER = {"token": "token-of-a-stranger", "user": "stranger", "projects": ["else"]}
OPS = {"token": "token-of-everybody", "user": "ops", "projects": ["*"]}
PARALLEL = 90
SPARSE = 7
"""One of so many attempts is made where a token is wrong in a rare way."""
EDITED = ("exporters", "exportpolicies", "secrets")
ASKED = (
    "exporterpreviews",
    "seriesexplanations",
    "selfsubjectreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
)
ROLES = {VIEWER: "viewer", EDITOR: "editor", ADMIN: "admin", RELAY: "relay"}
WRONG_HEADERS = {
    "none": None,
    "empty": "",
    "of another scheme": "Basic dTpw",
    "a scheme alone": "Bearer",
    "without a scheme": ADMIN,
    "of an unknown token": "Bearer token-of-nobody-at-all",
    "of a prefix of a token": f"Bearer {ADMIN[:-1]}",
    "of a token and more": f"Bearer {ADMIN} {ADMIN}",
    "of a token in another case": f"Bearer {ADMIN.upper()}",
    "of a token in quotes": f'Bearer "{ADMIN}"',
    "of a long token": f"Bearer {'x' * 8000}",
    "of bytes that are no UTF-8": "Bearer \udcff\udcfe",
}

SINK = {"endpoint": "https://prometheus.example/push", "retry": {}, "batch": {}}
EXAMPLES: dict[str, dict[str, Any]] = {
    "Event": {"involvedObject": {"namespace": "default"}},
    "Exporter": {"spec": exporter()["spec"]},
    "ExportPolicy": {
        "spec": {
            "sources": [{"name": "all", "metrics": {"metricsql": "{}"}}],
            "sinks": [
                {"name": "one", "sources": ["all"], "target": {"prometheusRemoteWrite": SINK}}
            ],
        }
    },
}
"""What an object of a kind needs, beside its name."""


async def acted(_request: ActionRequest) -> dict[str, Any]:
    return {}


def history_of(kind: ResourceKind, one: StoredObject) -> dict[str, Any]:
    return {"kind": f"{kind.kind}History", "metadata": {"name": one.name}}


ACTIONS = {kind.plural: acted for kind in action_kinds()}


@asynccontextmanager
async def api_with_objects(folder: Path, root: str, **more: Any) -> AsyncIterator[LocalApi]:
    """The API with an object of each kind; with tenancy if there is a root."""
    hooks = {"actions": ACTIONS, "history": history_of}
    async with local_api(folder, tenancy=bool(root), **hooks, **more) as api:
        yield api


async def made_objects(admin: ApiUser, root: str, *, is_relay: bool = True) -> list[ServedResource]:
    """Create an object of each kind, Leases as a relay alone; return what is served."""
    resources = await served_resources(admin, root)
    for one in resources:
        if one.subresource or "get" not in one.verbs:
            continue
        if one.plural == "leases" and not is_relay:
            continue
        body = {"apiVersion": one.api_version, "kind": one.kind, "metadata": {"name": THERE}}
        body |= EXAMPLES.get(one.kind, {})
        code, status = await admin.ask("POST", f"{root}{one.path()}", body)
        assert code == 201, (f"{one.kind} needs another example", status)
    return resources


@contextmanager
def no_object_is_looked_at(api: LocalApi) -> Iterator[None]:
    """Fail for a refusal that depends on what is stored: its time could tell of it."""
    names = ("get", "listed", "count", "write", "projects")
    usual = {name: getattr(ServedObjects, name) for name in names}

    def refusing(name: str) -> Callable[..., Any]:
        def refuse(*arguments: Any, **more: Any) -> Any:
            if asyncio.current_task() is api.server._sweeping:
                return usual[name](*arguments, **more)
            raise AssertionError("a request that is refused looks at objects")

        return refuse

    with ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(ServedObjects, name, refusing(name)))
        yield


async def all_answers(
    user: ApiUser, wanted: list[Attempt], root: str, **headers: str
) -> list[RawAnswer]:
    """Send every attempt, some at once; return the answers in order."""
    found: list[RawAnswer] = []
    for start in range(0, len(wanted), PARALLEL):
        part = wanted[start : start + PARALLEL]
        found += await asyncio.gather(*(answered(user, one, root, **headers) for one in part))
    return found


def unauthorized() -> bytes:
    status = {
        "apiVersion": "v1",
        "code": 401,
        "kind": "Status",
        "message": "Unauthorized",
        "metadata": {},
        "reason": "Unauthorized",
        "status": "Failure",
    }
    return json.dumps(status, separators=(",", ":")).encode()


async def check_unauthorized(
    api: LocalApi, resources: list[ServedResource], header: Any, root: str, *, every: int = 1
) -> None:
    """Check that a header gets one and the same answer, whatever is asked for.

    ``every`` leaves out attempts but for one of so many.
    """
    user = api.user("")
    headers = {} if header is None else {"Authorization": header}
    wanted = [*attempts(resources, THERE), *attempts(resources, MISSING)][::every]
    for path in {"", root}:
        with no_object_is_looked_at(api):
            found = set(await all_answers(user, wanted, path, **headers))
        (one,) = found
        assert (one.code, one.reason, one.body) == (401, "Unauthorized", unauthorized())
        assert dict(one.headers)["WWW-Authenticate"] == 'Bearer realm="relay"'


@pytest.mark.parametrize("root", ["", f"/projects/{PROJECT}"])
async def test_unknown_users_are_told_nothing(tmp_path: Path, root: str) -> None:
    users = tokens(PROJECT) if root else tokens()
    async with api_with_objects(tmp_path, root, users=users) as api:
        resources = await made_objects(api.user(RELAY), root)
        for header in WRONG_HEADERS.values():
            every = 1 if header is None else SPARSE
            await check_unauthorized(api, resources, header, root, every=every)


@pytest.mark.parametrize("root", ["", f"/projects/{PROJECT}"])
async def test_tokens_of_an_issuer_that_are_refused(tmp_path: Path, root: str) -> None:
    issuer = Issuer(time.time())

    async def keys() -> bytes:
        return issuer.keys

    settings = OidcSettings(ISSUER, AUDIENCE)
    authentication = OidcAuthentication(settings, KeySource(keys, time.monotonic), time.time)
    async with api_with_objects(tmp_path, root, authentication=authentication) as api:
        resources = await made_objects(api.user(issuer.token()), root, is_relay=False)
        wrong = dict(issuer.refused())
        assert "expired" in wrong
        for name, token in wrong.items():
            every = 1 if name == "expired" else SPARSE
            await check_unauthorized(api, resources, f"Bearer {token}", root, every=every)
        if root:
            stranger = api.user(issuer.token(projects=["else"], sub="stranger"))
            await check_foreign(api, stranger, resources)


async def check_foreign(api: LocalApi, user: ApiUser, resources: list[ServedResource]) -> None:
    """Check that a project of others is refused, in words that only depend on the path."""
    for name in (THERE, MISSING):
        for project in (PROJECT, STRANGE, "*"):
            root = f"/projects/{project}"
            wanted = list(attempts(resources, name))
            with no_object_is_looked_at(api):
                found = await all_answers(user, wanted, root)
            for attempt, answer in zip(wanted, found, strict=True):
                path = f"{root}{attempt.path}".partition("?")[0]
                verb = attempt.method.lower()
                said = f'forbidden: User "stranger" cannot {verb} path "{path}"'
                check_forbidden(answer, said, {}, attempt)


def check_forbidden(
    answer: RawAnswer, message: str, details: dict[str, str], attempt: Attempt
) -> None:
    expected = {
        "apiVersion": "v1",
        "code": 403,
        "details": details,
        "kind": "Status",
        "message": message,
        "metadata": {},
        "reason": "Forbidden",
        "status": "Failure",
    }
    assert (answer.code, answer.reason, answer.status) == (403, "Forbidden", expected), attempt
    names = {name for name, _ in answer.headers}
    plain = {"Server", "Cache-Control", "X-Content-Type-Options", "Content-Type", "Content-Length"}
    assert names == plain, attempt


async def test_other_projects_are_refused(tmp_path: Path) -> None:
    root = f"/projects/{PROJECT}"
    strangers = [{**STRANGER, "role": "admin"}]
    users = [*tokens(PROJECT), *strangers]
    async with api_with_objects(tmp_path, root, users=users) as api:
        resources = await made_objects(api.user(RELAY), root)
        await check_foreign(api, api.user(STRANGER["token"]), resources)


def is_allowed(role: str, verb: str, resource: ServedResource) -> bool:
    """Return what a role may, as docs/api.md has it; a kind that it does not name is an admin's."""
    if resource.subresource == "tap":
        return role in ("admin", "relay")
    if resource.plural == "leases" and verb not in READING:
        return role == "relay"
    if role in ("admin", "relay") or verb in READING:
        return True
    if resource.plural in ASKED:
        return True
    edited = resource.plural in (*EDITED, "sinktests") and not resource.subresource
    return role == "editor" and edited


def refusal_of(user: str, attempt: Attempt) -> tuple[str, dict[str, str]]:
    """Return message and details of a refusal, in kube-apiserver's words."""
    resource = attempt.resource
    assert resource is not None
    scope = "at the cluster scope"
    if resource.namespaced:
        scope = 'in the namespace "default"'
    elif resource.plural == "namespaces" and attempt.name:
        scope = f'in the namespace "{attempt.name}"'
    details = {"name": attempt.name, "group": resource.group, "kind": resource.plural}
    qualified = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    subject = f'{qualified} "{attempt.name}"' if attempt.name else qualified
    message = (
        f'{subject} is forbidden: User "{user}" cannot {attempt.verb} resource '
        f'"{resource.full_name}" in API group "{resource.group}" {scope}'
    )
    return message, {key: value for key, value in details.items() if value}


@pytest.mark.parametrize("root", ["", f"/projects/{PROJECT}"])
async def test_roles_are_kept_to(tmp_path: Path, root: str) -> None:
    users = tokens(PROJECT) if root else tokens()
    async with api_with_objects(tmp_path, root, users=users) as api:
        resources = await made_objects(api.user(RELAY), root)
        names = {one.full_name for one in resources}
        assert {*EDITED, *ASKED, "sinktests", "namespaces", "exporters/status"} <= names
        assert {"exporters/history", "exportpolicies/history"} <= names
        for token in ROLES:
            for name in (THERE, MISSING):
                await check_role(api, token, list_of(resources, name), root)


def list_of(resources: list[ServedResource], name: str) -> list[Attempt]:
    return list(attempts(resources, name, only_served=True))


async def check_role(api: LocalApi, token: str, wanted: list[Attempt], root: str) -> None:
    user, role = api.user(token), ROLES[token]
    refused, allowed = [], []
    for one in wanted:
        assert one.resource is not None
        (allowed if is_allowed(role, one.verb, one.resource) else refused).append(one)
    with no_object_is_looked_at(api):
        answers = await all_answers(user, refused, root)
    for attempt, answer in zip(refused, answers, strict=True):
        check_forbidden(answer, *refusal_of(role, attempt), attempt)
    for attempt, answer in zip(allowed, await all_answers(user, allowed, root), strict=True):
        assert answer.code not in (401, 403, 405, 500), (attempt, answer.body)
    assert bool(refused) == (role != "relay")


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
async def test_all_projects_at_once_are_read_only(tmp_path: Path, role: str) -> None:
    root = f"/projects/{PROJECT}"
    users = [*tokens(PROJECT), {**OPS, "role": role}]
    async with api_with_objects(tmp_path, root, users=users) as api:
        resources = await made_objects(api.user(RELAY), root)
        ops = api.user(OPS["token"])
        for name in (THERE, MISSING):
            wanted = list_of(resources, name)
            for attempt, answer in zip(
                wanted, await all_answers(ops, wanted, "/projects/*"), strict=True
            ):
                resource = attempt.resource
                assert resource is not None
                if attempt.verb in READING:
                    expected = 404 if name == MISSING and attempt.verb == "get" else 200
                    assert answer.code == expected, (attempt, answer.body)
                else:
                    assert (answer.code, answer.status["reason"]) == (403, "Forbidden"), attempt
