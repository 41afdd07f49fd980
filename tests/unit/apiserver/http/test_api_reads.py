"""Lists, pages, tables, watches, and what clients ask before anything else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.apiserver.http import watches
from relay.apiserver.objects.object_bytes import overlaid, status_of
from relay.apiserver.store import event_ring
from tests.kit.apiserver.running import ADMIN, EXPORTERS, ApiUser, exporter, local_api
from tests.own_time import within

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


async def create(user: ApiUser, *names: str, **metadata: Any) -> list[dict[str, Any]]:
    made = []
    for name in names:
        code, value = await user.ask("POST", EXPORTERS, exporter(name, **metadata))
        assert code == 201, value
        made.append(value)
    return made


async def test_pages_make_one_list(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        names = [f"e{number}" for number in range(7)]
        await create(user, *names)
        found: list[str] = []
        token, sizes = "", []
        while True:
            query = f"?limit=3&continue={token}" if token else "?limit=3"
            _, page = await user.ask("GET", f"{EXPORTERS}{query}")
            found += [item["metadata"]["name"] for item in page["items"]]
            sizes.append((len(page["items"]), page["metadata"].get("remainingItemCount")))
            token = page["metadata"].get("continue", "")
            if not token:
                break
        assert found == names
        assert sizes == [(3, 4), (3, 1), (1, None)]


async def test_an_old_page_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        event_ring.EventRing.__init__, "__kwdefaults__", {"events_max": 2, "bytes_max": 1 << 20}
    )
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await create(user, "a", "b", "c")
        _, page = await user.ask("GET", f"{EXPORTERS}?limit=1")
        await create(user, "d", "e", "f")
        token = page["metadata"]["continue"]
        code, status = await user.ask("GET", f"{EXPORTERS}?limit=1&continue={token}")
        assert (code, status["reason"]) == (410, "Expired")
        first = page["metadata"]["resourceVersion"]
        async with user.watch(EXPORTERS, resourceVersion=first) as events:
            (event,) = [event async for event in events]
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        for wrong in ("zzz", "e30", "W10"):
            code, status = await user.ask("GET", f"{EXPORTERS}?limit=1&continue={wrong}")
            assert (code, status["reason"]) == (400, "BadRequest")


async def test_versions_of_lists(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await create(user, "a")
        _, listed = await user.ask("GET", EXPORTERS)
        version = listed["metadata"]["resourceVersion"]
        for query, code in (
            (f"?resourceVersion={version}&resourceVersionMatch=Exact", 200),
            ("?resourceVersion=1&resourceVersionMatch=NotOlderThan", 200),
            ("?resourceVersion=0", 200),
            ("?resourceVersion=2&resourceVersionMatch=Exact", 410),
            ("?resourceVersion=9999999999999999", 504),
            ("?resourceVersion=x", 400),
            ("?resourceVersionMatch=Exact", 422),
            ("?resourceVersion=1&resourceVersionMatch=Odd", 422),
            ("?sendInitialEvents=true", 422),
            ("?watch=1&sendInitialEvents=true", 422),
            ("?watch=1&resourceVersion=9999999999999999", 504),
            ("?limit=x", 400),
            ("?labelSelector=a+b", 400),
            ("?fieldSelector=spec.x=1", 400),
        ):
            found, _ = await user.ask("GET", EXPORTERS + query)
            assert found == code, query


async def test_forms_of_answers(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await create(user, "a")
        _, table = await user.ask("GET", EXPORTERS, Accept=f"{TABLE},application/json")
        assert table["kind"] == "Table"
        assert table["rows"][0]["cells"][0] == "a"
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        _, listed = await user.ask("GET", EXPORTERS, Accept=METADATA)
        assert listed["kind"] == "PartialObjectMetadataList"
        assert "spec" not in listed["items"][0]
        accept = "application/vnd.kubernetes.protobuf"
        code, status = await user.ask("GET", EXPORTERS, Accept=accept)
        assert (code, status["reason"]) == (406, "NotAcceptable")
        accept += ",application/json"
        assert (await user.ask("GET", EXPORTERS, Accept=accept))[0] == 200


async def test_a_large_list_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.apiserver.http.reads._WHOLE_BYTES_MAX", 1000)
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await create(user, "a", "b")
        _, listed = await user.ask("GET", EXPORTERS)
        assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]


async def test_a_watch_continues_a_list(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await create(user, "a")
        _, listed = await user.ask("GET", EXPORTERS)
        version = listed["metadata"]["resourceVersion"]
        async with user.watch(EXPORTERS, resourceVersion=version) as events:
            await create(user, "b")
            patch = {"metadata": {"labels": {"x": "y"}}}
            await user.patch(f"{EXPORTERS}/a", "application/merge-patch+json", patch)
            await user.ask("DELETE", f"{EXPORTERS}/b")
            seen = [await anext(events) for _ in range(3)]
        assert [(one["type"], one["object"]["metadata"]["name"]) for one in seen] == [
            ("ADDED", "b"),
            ("MODIFIED", "a"),
            ("DELETED", "b"),
        ]
        versions = [int(one["object"]["metadata"]["resourceVersion"]) for one in seen]
        assert versions == sorted(versions)
        async with user.watch(
            EXPORTERS, resourceVersion=str(versions[0]), timeoutSeconds="1"
        ) as events:
            assert [one["type"] async for one in events] == ["MODIFIED", "DELETED"]


async def test_initial_events_end_with_a_bookmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "BOOKMARK_S", 0.1)
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await create(user, "a", "b")
        query = {
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "true",
        }
        async with user.watch(EXPORTERS, **query) as events:
            seen = [await anext(events) for _ in range(4)]
        assert [one["type"] for one in seen] == ["ADDED", "ADDED", "BOOKMARK", "BOOKMARK"]
        annotations = seen[2]["object"]["metadata"]["annotations"]
        assert annotations == {"k8s.io/initial-events-end": "true"}
        assert "annotations" not in seen[3]["object"]["metadata"]


async def test_a_selection_is_entered_and_left(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        (made,) = await create(user, "a")
        version = made["metadata"]["resourceVersion"]
        merge = "application/merge-patch+json"
        async with user.watch(EXPORTERS, labelSelector="x=y", resourceVersion=version) as events:
            for labels in ({"x": "y"}, {"z": "1"}, {"x": None}, {"x": "z"}):
                await user.patch(f"{EXPORTERS}/a", merge, {"metadata": {"labels": labels}})
            seen = [(await anext(events))["type"] for _ in range(3)]
        assert seen == ["ADDED", "MODIFIED", "DELETED"]


async def test_watches_end_with_the_server(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        async with user.watch(EXPORTERS) as events:
            reading = asyncio.create_task(anext(events, None))
            await asyncio.sleep(0)
            api.server._service.close()  # type: ignore[union-attr]
            assert await within(10, reading) is None


async def test_discovery(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        _, groups = await user.ask("GET", "/apis")
        names = [group["name"] for group in groups["groups"]]
        assert "telemetry.datumapis.com" in names
        for group in groups["groups"]:
            path = f"/apis/{group['preferredVersion']['groupVersion']}"
            _, resources = await user.ask("GET", path)
            assert resources["groupVersion"] == group["preferredVersion"]["groupVersion"]
        _, core = await user.ask("GET", "/api/v1")
        assert {one["name"] for one in core["resources"]} == {"events", "namespaces", "secrets"}
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        _, aggregated, headers = await user.ask_all("GET", "/apis", Accept=accept)
        assert headers["Content-Type"] == accept
        assert {item["metadata"]["name"] for item in aggregated["items"]} == set(names)
        for path in ("/apis/nosuch", "/apis/apps/v1", "/api/v2", "/", "/openapi/v3/apis/x/v1"):
            assert (await user.ask("GET", path))[0] == 404, path


async def test_openapi_documents_are_whole(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        _, index = await user.ask("GET", "/openapi/v3")
        assert len(index["paths"]) == 6
        documents = []
        for one in index["paths"].values():
            code, document, headers = await user.ask_all("GET", one["serverRelativeURL"])
            assert code == 200
            again = await user.ask("GET", one["serverRelativeURL"], If_None_Match=headers["ETag"])
            assert again[0] == 304
            documents.append((document, document["components"]["schemas"], "#/components/schemas/"))
        _, document = await user.ask("GET", "/openapi/v2")
        documents.append((document, document["definitions"], "#/definitions/"))
        for document, schemas, prefix in documents:
            for reference in references(document):
                assert reference.startswith(prefix)
                assert reference.removeprefix(prefix) in schemas


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [one for value in node.values() for one in references(value)]
    return [one for value in node for one in references(value)] if isinstance(node, list) else []


async def test_a_status_is_completed_on_reading(tmp_path: Path) -> None:
    counts = {"a": 0}

    def computed(kind: Any, one: Any) -> bytes | None:
        if kind.plural != "exporters" or one.name not in counts:
            return None
        counts[one.name] += 1
        usage = {"activeSeries": counts[one.name]}
        return msgspec.json.encode(overlaid(status_of(one.shown), {"usage": usage}))

    async with local_api(tmp_path, computed=computed) as api:
        user = api.user(ADMIN)
        await create(user, "a", "b")
        status = {"status": {"conditions": [{"type": "Accepted", "status": "True"}]}}
        await user.patch(f"{EXPORTERS}/a/status", "application/merge-patch+json", status)
        counts["a"] = 0  # answers to writes are completed, too
        _, first = await user.ask("GET", f"{EXPORTERS}/a")
        _, second = await user.ask("GET", f"{EXPORTERS}/a")
        assert first["status"] == {**status["status"], "usage": {"activeSeries": 1}}
        assert second["status"]["usage"] == {"activeSeries": 2}
        assert first["metadata"] == second["metadata"]
        _, listed = await user.ask("GET", EXPORTERS)
        assert listed["items"][0]["status"]["usage"] == {"activeSeries": 3}
        assert "status" not in listed["items"][1]
        code, _ = await user.ask("PUT", f"{EXPORTERS}/a", second)
        assert code == 200
        _, third = await user.ask("GET", f"{EXPORTERS}/a")
        assert third["metadata"] == first["metadata"]


@pytest.mark.parametrize(
    ("agent", "query", "is_indented"),
    [
        ("curl/8.0", "", True),
        ("curl/8.0", "?pretty=false", False),
        ("kubectl/v1.37", "", False),
        ("kubectl/v1.37", "?pretty=true", True),
    ],
)
async def test_people_read_indented_json(
    tmp_path: Path, agent: str, query: str, *, is_indented: bool
) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await create(user, "a")
        for path, code in ((EXPORTERS, 200), (f"{EXPORTERS}/a", 200), (f"{EXPORTERS}/b", 404)):
            answer, body = await user.raw("GET", f"{path}{query}", None, {"User-Agent": agent})
            assert answer.status == code
            assert int(answer.headers["Content-Length"]) == len(body)
            assert msgspec.json.decode(body)["kind"] in ("ExporterList", "Exporter", "Status")
            assert body.endswith(b"\n}\n") is is_indented
