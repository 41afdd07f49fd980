"""Pages call the API as their user: its limits, its words, its records."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.apiserver.access import revocation
from relay.apiserver.http.actions import TapRequest
from relay.apiserver.http.file_objects import FileObject
from relay.apiserver.objects.metadata import FILE_ANNOTATION
from relay.ui.api_calls import exporter_path, secret_path
from relay.ui.authoring.controls import exporter_kind
from tests.kit.apiserver.running import ADMIN, EDITOR, EXPORTERS, VIEWER, exporter
from tests.kit.sink.running_sinks import ToldWorker, report_of
from tests.kit.ui.visitor import local_pages

ONE = "/ui/exporters/default/acme"
POLICIES = "/apis/telemetry.miloapis.com/v1alpha1/namespaces/default/exportpolicies"


async def test_a_change_is_on_record_with_its_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor, pages.api() as api:
        await api.ask("POST", EXPORTERS, exporter())
        caplog.clear()
        with caplog.at_level("INFO", logger="relay.api.audit"):
            answer = await visitor.post(f"{ONE}/sinks/one/pause")
        assert answer.status == 303
        (record,) = caplog.records
        told = vars(record)
        assert (told["user"], told["verb"], told["code"]) == ("editor", "patch", 200)
        assert told["address"] == "127.0.0.1"
        _, stored = await api.ask("GET", f"{EXPORTERS}/acme")
        assert stored["spec"]["sinks"][0]["paused"] is True


async def test_what_the_role_does_not_allow_is_told_in_the_apis_words(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(VIEWER) as visitor, pages.api() as api:
        await api.ask("POST", EXPORTERS, exporter())
        for path in (f"{ONE}/sinks/one/pause", f"{ONE}/delete", "/ui/secrets"):
            answer = await visitor.post(path, {"name": "a", "key": "b", "value": "c"})
            assert answer.status in (403, 422)
            assert "cannot" in answer.text
        answer = await visitor.post(f"{ONE}/sinks/one/pause", HX_Request="true")
        assert answer.status == 403
        assert "<html" not in answer.text


async def test_the_last_hour_is_the_apis(tmp_path: Path) -> None:
    worker = ToldWorker("default/acme", "one")
    began = time.time() // 60 * 60 - 180
    async with local_pages(tmp_path) as pages, pages.visitor(VIEWER) as visitor, pages.api() as api:
        await api.ask("POST", EXPORTERS, exporter())
        for after_s in (0, 60, 120):
            worker.deliver(began, 6000)
            pages.histories.note("default/acme", {"one": report_of(worker)}, began + after_s)
        code, answer = await api.ask("GET", f"{EXPORTERS}/acme/history")
        assert code == 200
        (sink,) = answer["sinks"]
        assert [one["delivered"] for one in sink["minutes"]][:3] == [0, 6000, 6000]
        page = (await visitor.get(ONE)).text
        (columns,) = re.findall(r'data-columns="([^"]*)"', page)
        shown = json.loads(columns)[1]
        assert shown == [one["delivered"] / 60 for one in sink["minutes"]]
        lost = re.search(r"Lost in 24 h</dt><dd[^>]*>([^<]*)<", page)
        assert lost is not None
        assert lost[1] == str(sink["lostInDay"])
        line = (await visitor.get("/ui/exporters")).text
        rate = re.search(r'data-label="Sent per second"><span class="each">([^<]*) <', line)
        assert rate is not None
        assert float(rate[1]) == sink["pointsPerSecond"]


async def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(ADMIN) as visitor:
        for name in ("..", ".", "a%2Fstatus", "%2e%2e", "a%00b", "a%3Fb", "%ff"):
            answer = await visitor.get(f"/ui/exporters/default/{name}")
            assert answer.status in (303, 404), name
    assert exporter_path("a/b", "../c", "tap").endswith("/namespaces/a%2Fb/exporters/..%2Fc/tap")
    assert secret_path("a", "b/c") == "/api/v1/namespaces/a/secrets/b%2Fc"


async def test_a_policy_is_shown_and_not_edited(tmp_path: Path) -> None:
    policy = {
        "apiVersion": "telemetry.miloapis.com/v1alpha1",
        "kind": "ExportPolicy",
        "metadata": {"name": "p"},
        "spec": {
            "sources": [{"name": "s", "metrics": {"metricsql": "{}"}}],
            "sinks": [
                {
                    "name": "g",
                    "sources": ["s"],
                    "target": {
                        "prometheusRemoteWrite": {
                            "endpoint": "https://prom.example/api/v1/write",
                            "authentication": {"basicAuth": {"secretRef": {"name": "x"}}},
                        }
                    },
                }
            ],
        },
    }
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor, pages.api() as api:
        code, said = await api.ask("POST", POLICIES, policy)
        assert code == 201, said
        page = await visitor.get("/ui/exporters")
        assert "ExportPolicy" in page.text
        address = "/ui/policies/telemetry.miloapis.com/default/p"
        assert f'href="{address}"' in page.text
        shown = await visitor.get(address)
        assert shown.status == 200
        assert "https://prom.example/api/v1/write" in shown.text
        assert ">Edit<" not in shown.text
        assert (await visitor.get("/ui/policies/nobody.example/default/p")).status == 404


async def test_an_object_of_a_file_is_not_edited(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor:
        service = pages.server.service
        kind = exporter_kind()
        value = exporter(namespace="default")
        await service.files.sync([kind], [FileObject(kind, "", value, "/etc/acme.yaml")])
        page = await visitor.get(ONE)
        assert "/etc/acme.yaml" in page.text
        assert ">Edit<" not in page.text
        answer = await visitor.post(f"{ONE}/sinks/one/pause")
        assert answer.status == 403
        assert "/etc/acme.yaml" in answer.text
        assert FILE_ANNOTATION not in page.text


async def test_a_deletion_is_of_the_object_that_was_shown(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor, pages.api() as api:
        await api.ask("POST", EXPORTERS, exporter())
        form = await visitor.get(f"{ONE}/delete")
        uid = form.text.partition('name="uid" value="')[2].partition('"')[0]
        await api.ask("DELETE", f"{EXPORTERS}/acme")
        await api.ask("POST", EXPORTERS, exporter())
        answer = await visitor.post(f"{ONE}/delete", {"uid": uid})
        assert answer.status == 409
        assert (await api.ask("GET", f"{EXPORTERS}/acme"))[0] == 200


async def test_forms_that_are_none_are_refused(tmp_path: Path) -> None:
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor:
        many = {f"f{number}": "x" for number in range(2000)}
        assert (await visitor.post("/ui/exporters/new", many)).status == 400
        assert (await visitor.post("/ui/exporters/new", {"text": "x" * 600_000})).status == 413
        assert (await visitor.post("/ui/exporters/new", {"do": "nothing"})).status == 400
        assert (await visitor.post("/ui/exporters/new", {"do": "backend.nobody"})).status == 404
        assert (await visitor.get("/ui/preview")).status == 405


async def test_a_secret_in_use_is_kept(tmp_path: Path) -> None:
    value = exporter()
    value["spec"]["sinks"][0]["otlp_http"]["authentication"] = {
        "type": "bearerToken",
        "secretRef": {"name": "tok"},
    }
    async with local_pages(tmp_path) as pages, pages.visitor(EDITOR) as visitor, pages.api() as api:
        await api.ask("POST", EXPORTERS, value)
        fields = {"name": "tok", "key": "token", "value": "s3cret-value"}
        assert (await visitor.post("/ui/secrets", fields)).status == 303
        page = await visitor.get("/ui/secrets")
        assert "s3cret-value" not in page.text
        assert "secrets/default/tok/delete" not in page.text
        answer = await visitor.post("/ui/secrets/default/tok/delete")
        assert answer.status == 409
        assert "used by acme" in answer.text
        _, stored = await api.ask("GET", "/api/v1/namespaces/default/secrets/tok")
        assert "s3cret" not in json.dumps(stored)


async def test_a_tap_lasts_as_long_as_its_user_is_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(revocation, "RECHECK_S", 0.01)
    going = asyncio.Event()

    async def points(_: TapRequest) -> AsyncIterator[dict[str, Any]]:
        going.set()
        await asyncio.sleep(0.2)  # looks at the user pass by
        point = {"metric": "up", "kind": "gauge", "labels": {"job": "a"}, "value": "1"}
        yield {"event": "point", **point}
        yield {"event": "end"}

    async with local_pages(tmp_path, tap=points) as pages, pages.visitor(ADMIN) as visitor:
        async with pages.api() as api:
            await api.ask("POST", EXPORTERS, exporter())
        path = f"{ONE}/sinks/one/tap"
        answer = await visitor.post(path)
        assert answer.status == 200
        assert "<bdi>up</bdi>" in answer.text
        going.clear()
        tapping = asyncio.create_task(visitor.post(path))
        await going.wait()
        pages.authentication._users = {}
        with pytest.raises(aiohttp.ClientError):
            await tapping
    assert not [one for one in caplog.records if one.levelname == "ERROR"]
