"""Reviews of users about themselves agree with what they may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kit.apiserver.running import (
    ADMIN,
    EDITOR,
    EXPORTERS,
    RELAY,
    VIEWER,
    ApiUser,
    exporter,
    local_api,
    tokens,
)

ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
GROUP = "telemetry.datumapis.com"


def review(path: str, **spec: Any) -> dict[str, Any]:
    group = path.split("/")[2]
    kinds = {ACCESS: "SelfSubjectAccessReview", RULES: "SelfSubjectRulesReview"}
    return {
        "apiVersion": f"{group}/v1",
        "kind": kinds.get(path, "SelfSubjectReview"),
        "spec": spec,
    }


async def may(user: ApiUser, verb: str, resource: str, group: str = "", **more: str) -> bool:
    asked = {"verb": verb, "resource": resource, "group": group, **more}
    code, found = await user.ask("POST", ACCESS, review(ACCESS, resourceAttributes=asked))
    assert code == 201, found
    allowed: bool = found["status"]["allowed"]
    return allowed


async def test_access_is_what_the_role_allows(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        viewer, editor, admin = (api.user(one) for one in (VIEWER, EDITOR, ADMIN))
        assert [await may(one, "create", "exporters", GROUP) for one in (viewer, editor)] == [
            False,
            True,
        ]
        for user, code in ((viewer, 403), (editor, 201)):
            assert (await user.ask("POST", EXPORTERS, exporter()))[0] == code
        assert await may(viewer, "watch", "secrets")
        assert not await may(editor, "create", "namespaces")
        assert await may(admin, "create", "namespaces")
        assert not await may(admin, "deletecollection", "namespaces")
        assert not await may(editor, "patch", "exporters", GROUP, subresource="status")
        assert await may(admin, "patch", "exporters", GROUP, subresource="status")
        assert await may(api.user(RELAY), "*", "*", "*")
        assert not await may(editor, "*", "*", "*")
        assert await may(viewer, "create", "selfsubjectreviews", "authentication.k8s.io")
        assert not await may(admin, "list", "pods")
        for path, verb, allowed in (("/version", "get", True), ("/metrics", "get", False)):
            asked = review(ACCESS, nonResourceAttributes={"path": path, "verb": verb})
            _, found = await viewer.ask("POST", ACCESS, asked)
            assert found["status"]["allowed"] == allowed


async def test_rules_are_those_that_hold(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        for token in (VIEWER, EDITOR, ADMIN):
            user = api.user(token)
            code, found = await user.ask("POST", RULES, review(RULES, namespace="default"))
            assert code == 201
            assert found["status"]["incomplete"] is False
            for rule in found["status"]["resourceRules"]:
                (group,), (name,) = rule["apiGroups"], rule["resources"]
                plural, _, subresource = name.partition("/")
                for verb in rule["verbs"]:
                    assert await may(user, verb, plural, group, subresource=subresource)


async def test_a_user_learns_its_name_and_role(tmp_path: Path) -> None:
    async with local_api(tmp_path, users=tokens("acme", "other"), tenancy=True) as api:
        body = review(WHO)
        code, found = await api.user(EDITOR).ask("POST", f"/projects/acme{WHO}", body)
        assert code == 201
        assert found["status"]["userInfo"] == {
            "username": "editor",
            "extra": {f"{GROUP}/role": ["editor"], f"{GROUP}/projects": ["acme", "other"]},
        }
        assert (await api.user("").ask("POST", f"/projects/acme{WHO}", body))[0] == 401
        assert (await api.user(EDITOR).ask("POST", f"/projects/none{WHO}", body))[0] == 403


@pytest.mark.parametrize(
    ("spec", "code", "said"),
    [
        ({}, 422, "exactly one of"),
        ({"resourceAttributes": "x"}, 422, "exactly one of"),
        (
            {"resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"path": "/"}},
            422,
            "cannot be given beside",
        ),
        ("x", 400, "spec must be an object"),
    ],
)
async def test_questions_that_are_none(tmp_path: Path, spec: Any, code: int, said: str) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(VIEWER)
        found = await user.ask("POST", ACCESS, {**review(ACCESS), "spec": spec})
        assert found[0] == code
        assert said in found[1]["message"]
        assert (await user.ask("GET", ACCESS))[0] == 405
        assert (await user.ask("POST", f"{ACCESS}/x", review(ACCESS)))[0] == 404
