"""Objects that can only be created are checked as others are; nothing else can be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.http.actions import ACTION_BYTES_MAX
from tests.kit.apiserver.projects import ActingApi, acting_api, action, causes, exporter, path_of
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER

KINDS = ("ExporterPreview", "SinkTest", "SeriesExplanation")


@pytest.mark.parametrize("kind", KINDS)
async def test_they_can_only_be_created(tmp_path: Path, kind: str) -> None:
    async with acting_api(tmp_path) as api:
        admin, path = api.user(ADMIN), path_of(kind)
        for method, query in (("GET", ""), ("GET", "?watch=true"), ("DELETE", "")):
            code, status = await admin.ask(method, path + query)
            assert (code, status["reason"]) == (405, "MethodNotAllowed")
        for method in ("GET", "DELETE", "PUT", "PATCH"):
            assert (await admin.ask(method, f"{path}/x", {}))[0] == 404
        everywhere = path.replace("/namespaces/default", "")
        assert (await admin.ask("GET", everywhere))[0] == 404
        assert (await admin.ask("POST", everywhere, action(kind, {})))[0] == 404
        _, found = await admin.ask("GET", path.rpartition("/namespaces")[0])
        verbs = {one["name"]: one["verbs"] for one in found["resources"]}
        assert verbs[kind.lower() + "s"] == ["create"]
        assert verbs["exporters/tap"] == ["get"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", [None, {}, 1, "x", []])
async def test_a_spec_is_required(tmp_path: Path, kind: str, spec: Any) -> None:
    async with acting_api(tmp_path) as api:
        code, status = await api.ask(kind, spec)
        assert code == 422
        assert causes(status)[0][0] in ("spec", "spec.exporter", "spec.series")


async def asked(api: ActingApi, body: Any, query: str = "", token: str = VIEWER) -> Any:
    return await api.user(token).ask_all("POST", path_of("SeriesExplanation") + query, body)


async def test_names_may_be_left_out_or_made(tmp_path: Path) -> None:
    spec = {"series": "up"}
    async with acting_api(tmp_path) as api:
        code, made, _ = await asked(api, action("SeriesExplanation", spec))
        assert code == 201
        assert made["metadata"] == {"namespace": "default", "creationTimestamp": None}
        given = {"generateName": "why-", "labels": {"a": "b"}, "uid": "mine"}
        code, made, _ = await asked(api, action("SeriesExplanation", spec, **given))
        assert code == 201
        assert made["metadata"]["name"].startswith("why-")
        assert len(made["metadata"]["name"]) == len("why-") + 5
        assert made["metadata"]["labels"] == {"a": "b"}
        assert "uid" not in made["metadata"]
        for metadata, field in (
            ({"name": "Not A Name"}, "metadata.name"),
            ({"generateName": "NOT-"}, "metadata.name"),
            ({"labels": {"?": "x"}}, "metadata.labels"),
        ):
            code, status, _ = await asked(api, action("SeriesExplanation", spec, **metadata))
            assert (code, causes(status)[0][0]) == (422, field)
        code, _, _ = await asked(api, action("SeriesExplanation", spec, namespace="other"))
        assert code == 400


async def test_fields_are_validated(tmp_path: Path) -> None:
    body = action("SeriesExplanation", {"series": "up", "bogus": 1})
    async with acting_api(tmp_path) as api:
        code, made, headers = await asked(api, body)
        assert code == 201
        assert headers["Warning"] == '299 - "unknown field \\"spec.bogus\\""'
        assert "bogus" not in made["spec"]
        code, status, _ = await asked(api, body, "?fieldValidation=Strict")
        assert code == 400
        assert 'strict decoding error: unknown field "spec.bogus"' in status["message"]
        code, _, headers = await asked(api, body, "?fieldValidation=Ignore")
        assert (code, headers.get("Warning")) == (201, None)
        code, status, _ = await asked(api, body, "?dryRun=Some")
        assert (code, causes(status)) == (422, [("dryRun", "FieldValueNotSupported")])
        for spec, field in (
            ({"series": 1}, "spec.series"),
            ({"labels": []}, "spec.labels"),
            ({"labels": {"a": 1}}, "spec.labels.a"),
            ({"series": "up", "all": "yes"}, "spec.all"),
            ({"series": "up", "exporter": {}}, "spec.exporter"),
        ):
            code, status, _ = await asked(api, action("SeriesExplanation", spec))
            assert (code, causes(status)) == (422, [(field, "FieldValueTypeInvalid")])


async def test_other_objects_and_large_ones_are_refused(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        for body in (exporter("x", "{}"), {"kind": "SeriesExplanation"}, [], 1):
            code, status, _ = await asked(api, body)
            assert (code, status["reason"]) == (400, "BadRequest")
        spec = {"series": "u" * ACTION_BYTES_MAX}
        code, status, _ = await asked(api, action("SeriesExplanation", spec))
        assert (code, status["reason"]) == (413, "RequestEntityTooLarge")


async def test_only_those_of_the_project_are_answered(tmp_path: Path) -> None:
    async with acting_api(tmp_path) as api:
        for kind in KINDS:
            path = path_of(kind, "globex")
            code, _ = await api.user(ADMIN).ask("POST", path, action(kind, {"a": 1}))
            assert code == 403
            path = path_of(kind, namespace="none")
            body = action(kind, {"series": "up", "exporter": "web"})
            code, _ = await api.user(ADMIN).ask("POST", path, body)
            assert code == 404


@pytest.mark.parametrize("token", [VIEWER, EDITOR, ADMIN])
async def test_roles(tmp_path: Path, token: str) -> None:
    async with acting_api(tmp_path) as api:
        expected = {"ExporterPreview": 422, "SeriesExplanation": 422, "SinkTest": 422}
        if token == VIEWER:
            expected["SinkTest"] = 403
        for kind, code in expected.items():
            assert (await api.ask(kind, {"exporter": "none"}, token=token))[0] == code
