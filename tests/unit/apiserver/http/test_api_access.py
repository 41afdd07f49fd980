"""Projects that do not see each other, all of them at once, Secrets and limits.

Every verb on every resource by every wrong user: tests/integration/apiserver/access/.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.access.limits import ApiLimits
from relay.apiserver.objects.kinds import ResourceKind, served_kinds
from tests.kit.apiserver.running import (
    ADMIN,
    RELAY,
    VIEWER,
    LocalApi,
    exporter,
    local_api,
    secret,
    tokens,
)

HIDDEN = "hidden-name"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
MERGE = "application/merge-patch+json"
FOREIGN = "token-of-a-stranger"


@asynccontextmanager
async def two_projects(folder: Path) -> AsyncIterator[LocalApi]:
    """The API with projects acme and other; a stranger has only the other one."""
    stranger = {"token": FOREIGN, "user": "stranger", "role": "admin", "projects": ["other"]}
    users = [*tokens("acme"), stranger]
    async with local_api(folder, users=users, tenancy=True) as api:
        admin = api.user(ADMIN)
        assert (await admin.ask("POST", f"/projects/acme{path_of('exporters')}", hidden()))[
            0
        ] == 201
        yield api


def hidden() -> dict[str, Any]:
    return exporter(HIDDEN)


def kind_of(plural: str) -> ResourceKind:
    return next(kind for kind in served_kinds() if kind.plural == plural)


def path_of(plural: str) -> str:
    return collection(kind_of(plural))


def collection(kind: ResourceKind) -> str:
    scope = "/namespaces/default" if kind.namespaced else ""
    return f"{kind.path}{scope}/{kind.plural}"


async def test_a_user_of_every_project_reads_them_at_once(tmp_path: Path) -> None:
    everyone = {"token": "token-of-everybody", "user": "ops", "role": "viewer", "projects": ["*"]}
    async with local_api(tmp_path, users=[*tokens("acme", "other"), everyone], tenancy=True) as api:
        admin, ops = api.user(ADMIN), api.user(everyone["token"])
        path = path_of("exporters")
        for project in ("acme", "other"):
            assert (await admin.ask("POST", f"/projects/{project}{path}", exporter()))[0] == 201
        _, listed = await ops.ask("GET", f"/projects/*{path}")
        annotation = "telemetry.datumapis.com/project"
        found = [item["metadata"]["annotations"][annotation] for item in listed["items"]]
        assert found == ["acme", "other"]
        _, page = await ops.ask("GET", f"/projects/*{path}?limit=1")
        token = page["metadata"]["continue"]
        _, page = await ops.ask("GET", f"/projects/*{path}?limit=1&continue={token}")
        assert page["items"][0]["metadata"]["annotations"][annotation] == "other"
        async with ops.watch(f"/projects/*{path}", timeoutSeconds="1") as events:
            shown = [event["object"]["metadata"]["annotations"] async for event in events]
        assert [one[annotation] for one in shown] == ["acme", "other"]
        code, status = await ops.ask("GET", f"/projects/*{path}/acme")
        assert (code, status["reason"]) == (400, "BadRequest")
        assert "2 projects have it, such as acme, other" in status["message"]
        assert (await admin.ask("DELETE", f"/projects/other{path}/acme"))[0] == 200
        code, found = await ops.ask("GET", f"/projects/*{path}/acme")
        assert (code, found["metadata"]["annotations"][annotation]) == (200, "acme")
        assert (await ops.ask("GET", f"/projects/*{path}/none"))[0] == 404
        assert (await admin.ask("GET", f"/projects/*{path}"))[0] == 403


async def test_reading_makes_no_project(tmp_path: Path) -> None:
    everyone = {"token": "token-of-everybody", "user": "ops", "role": "admin", "projects": ["*"]}
    async with local_api(tmp_path, users=[*tokens("acme"), everyone], tenancy=True) as api:
        ops, namespaces = api.user(everyone["token"]), "/api/v1/namespaces"
        for path in (path_of("exporters"), namespaces):
            code, listed = await ops.ask("GET", f"/projects/new{path}")
            assert (code, listed["items"]) == (200, [])
        assert (await ops.ask("GET", f"/projects/new{namespaces}/default"))[0] == 404
        _, everywhere = await ops.ask("GET", f"/projects/*{namespaces}")
        assert len(everywhere["items"]) == 1
        assert (await ops.ask("POST", f"/projects/new{path_of('exporters')}", exporter()))[0] == 201
        assert (await ops.ask("GET", f"/projects/new{namespaces}/default"))[0] == 200


async def test_projects_do_not_see_each_other(tmp_path: Path) -> None:
    async with two_projects(tmp_path) as api:
        stranger = api.user(FOREIGN)
        path = path_of("exporters")
        _, listed = await stranger.ask("GET", f"/projects/other{path}")
        assert listed["items"] == []
        assert (await stranger.ask("GET", f"/projects/other{path}/{HIDDEN}"))[0] == 404
        assert (await stranger.ask("GET", "/api/v1/namespaces/default"))[0] == 403
        code, namespace = await stranger.ask("GET", "/projects/other/api/v1/namespaces/default")
        assert (code, namespace["status"]) == (200, {"phase": "Active"})


async def test_secrets_are_never_shown(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        path = path_of("secrets")
        value = "c2VjcmV0LXZhbHVl"  # secret-value
        answers = [
            await admin.ask("POST", path, secret(a="secret-value")),
            await admin.ask("GET", f"{path}/tok"),
            await admin.ask("GET", path),
            await admin.ask("GET", path, Accept=TABLE),
            await admin.ask("GET", f"{path}?includeObject=Object", Accept=TABLE),
            await admin.patch(f"{path}/tok", MERGE, {"data": {"b": value}}),
            await admin.ask("PUT", f"{path}/tok?dryRun=All", secret(a="secret-value")),
            await admin.ask("POST", path, secret("other", **{"a b": "secret-value"})),
            await admin.ask("POST", path, {**secret("other"), "data": {"a": f"{value}%"}}),
        ]
        async with admin.watch(path, timeoutSeconds="1") as events:
            answers += [(200, event) async for event in events]
        answers += [await admin.ask("DELETE", f"{path}/tok")]
        text = json.dumps(answers)
        assert value not in text
        assert "secret-value" not in text


async def test_another_relay_reads_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = path_of("secrets")
    with caplog.at_level("INFO", logger="relay.api.audit"):
        async with local_api(tmp_path, users=tokens()) as api:
            admin, reader = api.user(ADMIN), api.user(RELAY)
            await admin.ask("POST", path, secret(a="secret-value"))
            value = {"a": "c2VjcmV0LXZhbHVl"}
            masked = {"a": "KioqKg=="}
            caplog.clear()
            _, found = await reader.ask("GET", f"{path}/tok")
            _, listed = await reader.ask("GET", path)
            assert found["data"] == listed["items"][0]["data"] == value
            async with reader.watch(path, timeoutSeconds="1") as events:
                assert (await anext(events))["object"]["data"] == value
            told = [(one.verb, one.resource, one.user) for one in caplog.records]
            assert told == [(verb, "secrets", "relay") for verb in ("get", "list", "watch")]
            caplog.clear()
            _, shown = await reader.ask("GET", f"{path}?includeObject=Object", Accept=TABLE)
            assert shown["rows"][0]["object"]["data"] == masked
            assert (await reader.ask("GET", f"{path}/none"))[0] == 404
            _, written = await reader.patch(f"{path}/tok", MERGE, {"metadata": {"labels": {}}})
            assert written["data"] == masked
            assert (await admin.ask("GET", f"{path}/tok"))[1]["data"] == masked
            assert [one.verb for one in caplog.records] == ["patch"]
            assert "secret-value" not in caplog.text


async def test_limits_are_told(tmp_path: Path) -> None:
    limits = ApiLimits(
        body_bytes_max=2000,
        objects_per_kind_max=1,
        watches_per_user_max=1,
        watches_per_project_max=1,
    )
    async with local_api(tmp_path, limits=limits) as api:
        admin = api.user(ADMIN)
        path = path_of("exporters")
        assert (await admin.ask("POST", path, exporter("a")))[0] == 201
        code, status = await admin.ask("POST", path, exporter("b"))
        assert (code, status["reason"]) == (429, "TooManyRequests")
        code, status = await admin.ask("POST", path, exporter("c" * 3000))
        assert (code, status["reason"]) == (413, "RequestEntityTooLarge")
        async with admin.watch(path):
            code, status, headers = await admin.ask_all("GET", f"{path}?watch=1")
            assert (code, headers["Retry-After"]) == (429, "5")


async def test_refused_changes_are_on_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_projects(tmp_path) as api:
        stranger, viewer = api.user(FOREIGN), api.user(VIEWER)
        path = path_of("exporters")
        with caplog.at_level("INFO", logger="relay.api.audit"):
            for user in (stranger, viewer):
                await user.ask("POST", f"/projects/acme{path}", exporter())
                await user.ask("DELETE", f"/projects/acme{path}/{HIDDEN}")
                await user.ask("GET", f"/projects/acme{path}/{HIDDEN}")
        told = [(vars(one)["user"], vars(one)["verb"], vars(one)["code"]) for one in caplog.records]
        assert told == [
            ("stranger", "create", 403),
            ("stranger", "delete", 403),
            ("viewer", "create", 403),
            ("viewer", "delete", 403),
        ]
        assert {vars(one)["project"] for one in caplog.records} == {"acme"}


async def test_a_path_without_a_project_is_told_what_it_lacks(tmp_path: Path) -> None:
    async with local_api(tmp_path, users=tokens("acme"), tenancy=True) as api:
        for path in ("/apis", "/version", path_of("exporters")):
            code, status = await api.user(ADMIN).ask("GET", path)
            assert code == 403
            assert status["message"].endswith(
                f'path "{path}": paths begin with /projects/<project>'
            )
