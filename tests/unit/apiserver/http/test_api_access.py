"""Every verb on every resource, by every kind of user: refused with the right Status, or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relay.apiserver.access.limits import ApiLimits
from relay.apiserver.objects.kinds import ResourceKind, served_kinds
from relay.apiserver.server import refuse_foreign_pages
from tests.kit.apiserver.running import (
    ADMIN,
    EDITOR,
    VIEWER,
    ApiUser,
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
READING = ("get", "list", "watch")
WRITING = ("create", "update", "patch", "apply", "delete", "deletecollection")
EDITED = ("exporters", "exportpolicies", "secrets")


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


def requests() -> Iterator[tuple[ResourceKind, str, str, str, str]]:
    """Kind, verb, method, path and media type of every verb on every resource."""
    json_type = "application/json"
    for kind in served_kinds():
        many = collection(kind)
        one = f"{many}/{HIDDEN}"
        yield kind, "get", "GET", one, ""
        yield kind, "list", "GET", many, ""
        yield kind, "watch", "GET", f"{many}?resourceVersion=1", ""
        yield kind, "create", "POST", many, json_type
        yield kind, "update", "PUT", one, json_type
        yield kind, "patch", "PATCH", one, MERGE
        apply = "application/apply-patch+yaml"
        yield kind, "apply", "PATCH", f"{one}?fieldManager=x", apply
        yield kind, "delete", "DELETE", one, json_type
        if "deletecollection" in kind.verbs:
            yield kind, "deletecollection", "DELETE", many, json_type
        if kind.has_status:
            yield kind, "status", "PATCH", f"{one}/status", MERGE


async def ask(user: ApiUser, method: str, path: str, media_type: str) -> tuple[int, dict[str, Any]]:
    body = "{}" if media_type else None
    headers = {"Content_Type": media_type} if media_type else {}
    return await user.ask(method, path, body, **headers)


async def test_strangers_are_refused_and_told_nothing(tmp_path: Path) -> None:
    async with two_projects(tmp_path) as api:
        for token, code, reason in (
            ("", 401, "Unauthorized"),
            ("token-of-nobody-at-all", 401, "Unauthorized"),
            (FOREIGN, 403, "Forbidden"),
        ):
            user = api.user(token)
            for _, verb, method, path, media_type in requests():
                if verb == "watch":
                    continue  # below: it is a stream
                found, status = await ask(user, method, f"/projects/acme{path}", media_type)
                where = (token, method, path, status)
                assert (found, status["reason"], status["kind"]) == (code, reason, "Status"), where
                # The same for a project that does not exist.
                other, unknown = await ask(user, method, f"/projects/nosuch{path}", media_type)
                assert other == found, where
                expected = status["message"].replace("/projects/acme/", "/projects/nosuch/")
                assert unknown["message"] == expected, where
                without_path = json.dumps(status).replace(path.partition("?")[0], "")
                assert HIDDEN not in without_path, where


async def test_roles(tmp_path: Path) -> None:
    async with two_projects(tmp_path) as api:
        for kind, verb, method, path, media_type in requests():
            allowed = {VIEWER: verb in READING, EDITOR: verb in READING, ADMIN: True}
            if verb in WRITING and kind.plural in EDITED:
                allowed[EDITOR] = True
            for token, is_allowed in allowed.items():
                where = (token, method, path)
                user = api.user(token)
                if verb == "watch":
                    async with user.watch(f"/projects/acme{path}"):
                        continue
                code, status = await ask(user, method, f"/projects/acme{path}", media_type)
                assert (code == 403) != is_allowed, (where, status)
                if code == 403:
                    assert status["reason"] == "Forbidden", where
                    assert f'in API group "{kind.group}"' in status["message"], where
                else:
                    assert code in (200, 400, 404, 409, 415, 422), (where, status)


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
        assert (await ops.ask("GET", f"/projects/*{path}/acme"))[0] == 403
        assert (await admin.ask("GET", f"/projects/*{path}"))[0] == 403


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


async def test_an_open_api_takes_nothing_from_foreign_pages(tmp_path: Path) -> None:
    async with local_api(tmp_path, allows_request=refuse_foreign_pages) as api:
        admin = api.user(ADMIN)
        path = path_of("exporters")
        for headers, code in (
            ({}, 200),
            ({"Origin": "http://localhost:3000"}, 200),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Host": "evil.example"}, 403),
            ({"Host": "[::1]:9492"}, 200),
        ):
            assert (await admin.ask("GET", path, **headers))[0] == code, headers
