"""Kinds that can only be created; Events that are forgotten; a kubeconfig."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.apiserver.access.kubeconfig_document import kubeconfig_document
from relay.apiserver.http import event_sweeper
from relay.apiserver.http.actions import ActionRequest
from relay.apiserver.objects.failures import bad_request
from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER, LocalApi, local_api

GROUP = "/apis/telemetry.datumapis.com/v1alpha1"
PREVIEWS = f"{GROUP}/namespaces/default/exporterpreviews"
TESTS = f"{GROUP}/namespaces/default/sinktests"
EVENTS = "/api/v1/namespaces/default/events"


def preview(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "ExporterPreview",
        "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": spec,
    }


async def test_what_failed_is_a_warning(tmp_path: Path) -> None:
    async def answer(request: ActionRequest) -> dict[str, Any]:
        failed = {"ok": False, "message": "HTTP 401", "advice": "put in the right ones"}
        return {"ok": True, "message": "taken"} if request.spec["sink"] == "good" else failed

    async with local_api(tmp_path, actions={"sinktests": answer}) as api:
        editor = api.user(EDITOR)
        body = {**preview(exporter="web", sink="bad"), "kind": "SinkTest"}
        code, made, headers = await editor.ask_all("POST", TESTS, body)
        assert (code, made["status"]["ok"]) == (201, False)
        assert headers.getall("Warning") == ['299 - "HTTP 401: put in the right ones"']
        body["spec"]["sink"] = "good"
        _, _, headers = await editor.ask_all("POST", TESTS, body)
        assert "Warning" not in headers


async def test_an_action_is_answered_and_not_stored(tmp_path: Path) -> None:
    asked: list[ActionRequest] = []

    async def answer(request: ActionRequest) -> dict[str, Any]:
        asked.append(request)
        if request.spec["exporter"] == "none":
            raise bad_request("there is none")
        return {"sources": []}

    async with local_api(tmp_path, actions={"exporterpreviews": answer}) as api:
        viewer = api.user(VIEWER)
        code, made = await viewer.ask("POST", PREVIEWS, preview(exporter={"a": 1}))
        assert code == 201
        assert made["status"] == {"sources": []}
        assert made["spec"] == {"exporter": {"a": 1}, "measureSeconds": 10}
        assert (asked[0].project, asked[0].namespace, asked[0].principal.user) == (
            "",
            "default",
            "viewer",
        )
        code, status = await viewer.ask("POST", PREVIEWS, preview(exporter="none"))
        assert (code, status["message"]) == (400, "there is none")
        code, _ = await viewer.ask("POST", PREVIEWS, {**preview(), "kind": "Other"})
        assert code == 400
        code, _ = await viewer.ask("POST", PREVIEWS.replace("default", "none"), preview(a=1))
        assert code == 404
        for method in ("GET", "DELETE"):
            assert (await viewer.ask(method, PREVIEWS))[0] in (403, 405)
        assert api.server.objects.statistics().objects.keys() == {"namespaces"}
        _, resources = await viewer.ask("GET", GROUP)
        verbs = {one["name"]: one["verbs"] for one in resources["resources"]}
        assert verbs["exporterpreviews"] == ["create"]
        assert "sinktests" not in verbs
        assert (await viewer.ask("POST", TESTS, {}))[0] == 404
        _, document = await viewer.ask("GET", f"/openapi/v3{GROUP}")
        assert f"{GROUP}/namespaces/{{namespace}}/exporterpreviews" in document["paths"]


async def test_a_viewer_tests_no_sinks(tmp_path: Path) -> None:
    async def answer(_request: ActionRequest) -> dict[str, Any]:
        return {"steps": []}

    body = {**preview(exporter="a"), "kind": "SinkTest"}
    async with local_api(tmp_path, actions={"sinktests": answer}) as api:
        assert (await api.user(VIEWER).ask("POST", TESTS, body))[0] == 403
        assert (await api.user(EDITOR).ask("POST", TESTS, body))[0] == 201


def event(name: str, last: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": {"namespace": "default", "kind": "Exporter", "name": "acme"},
        "lastTimestamp": last,
        "type": "Normal",
    }


async def events(api: LocalApi) -> list[str]:
    _, listed = await api.user(ADMIN).ask("GET", EVENTS)
    return [item["metadata"]["name"] for item in listed["items"]]


async def test_old_events_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        for name, last in (
            ("old", "2020-01-01T00:00:00Z"),
            ("new", "2999-01-01T00:00:00Z"),
            ("newer", "2999-01-01T00:00:01Z"),
        ):
            assert (await admin.ask("POST", EVENTS, event(name, last)))[0] == 201
        service = api.server._service
        assert service is not None
        # As in Kubernetes, what counts is when they were written, not what senders say of it.
        assert await service.sweeper.sweep() == 0
        monkeypatch.setattr(event_sweeper, "EVENTS_PER_PROJECT_MAX", 2)
        assert await service.sweeper.sweep() == 1
        assert await events(api) == ["new", "newer"]
        now = service.sweeper._clock
        monkeypatch.setattr(service.sweeper, "_clock", lambda: now() + 3601.0)
        assert await service.sweeper.sweep() == 2
        assert await events(api) == []


def test_an_event_that_is_written_again_is_kept_from_then_on() -> None:
    metadata = {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"time": "2026-01-01T00:00:00Z"}, {"time": "2026-01-01T02:00:00Z"}],
    }
    written = event_sweeper.last_written({"metadata": metadata, "lastTimestamp": "1999-01-01"})
    assert written == 1767232800.0


async def test_events_are_checked_and_selected(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        admin = api.user(ADMIN)
        wrong = event("x", "2999-01-01T00:00:00Z")
        wrong["involvedObject"]["namespace"] = "other"
        assert (await admin.ask("POST", EVENTS, wrong))[0] == 422
        await admin.ask("POST", EVENTS, event("x", "2999-01-01T00:00:00Z"))
        for selector, found in (("involvedObject.name=acme", 1), ("involvedObject.name!=acme", 0)):
            _, listed = await admin.ask("GET", f"{EVENTS}?fieldSelector={selector}")
            assert len(listed["items"]) == found


def test_a_kubeconfig_leads_to_a_project() -> None:
    text = kubeconfig_document("https://127.0.0.1:9492", b"CA", "token-x", "acme")
    found = yaml.safe_load(text)
    cluster = found["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:9492/projects/acme"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"CA"
    assert found["users"][0]["user"] == {"token": "token-x"}
    assert found["current-context"] == "relay-acme"
    plain = yaml.safe_load(kubeconfig_document("https://h", b"", "t"))
    assert plain["clusters"][0]["cluster"] == {"server": "https://h"}
