"""Objects of files: shown with those of the API, and not written through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relay.apiserver.http.file_objects import FileObject
from relay.apiserver.objects.kinds import served_kinds
from relay.apiserver.objects.metadata import FILE_ANNOTATION
from tests.kit.apiserver.running import ADMIN, EXPORTERS, LocalApi, exporter, local_api

KIND = next(kind for kind in served_kinds() if kind.kind == "Exporter")
MERGE = "application/merge-patch+json"


def of_file(name: str, file: str = "acme.yaml", **metadata: Any) -> FileObject:
    return FileObject(KIND, "", exporter(name, **metadata), file)


async def sync(api: LocalApi, *wanted: FileObject) -> list[FileObject]:
    service = api.server._service
    assert service is not None
    return await service.files.sync([KIND], wanted)


async def versions(api: LocalApi) -> dict[str, str]:
    _, listed = await api.user(ADMIN).ask("GET", EXPORTERS)
    return {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listed["items"]
    }


async def test_files_are_followed(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        assert await sync(api, of_file("a"), of_file("b")) == []
        before = await versions(api)
        assert set(before) == {"a", "b"}
        await sync(api, of_file("a"), of_file("b", labels={"x": "y"}), of_file("c"))
        after = await versions(api)
        assert after["a"] == before["a"]
        assert after["b"] != before["b"]
        await sync(api, of_file("c"))
        assert set(await versions(api)) == {"c"}
    async with local_api(tmp_path) as api:
        assert set(await versions(api)) == {"c"}
        await sync(api)
        assert await versions(api) == {}


async def test_a_write_names_the_file(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await sync(api, of_file("a"))
        path = f"{EXPORTERS}/a"
        _, shown = await user.ask("GET", path)
        for method, body, media_type in (
            ("PUT", shown, "application/json"),
            ("PATCH", {"metadata": {"annotations": None}}, MERGE),
            ("PATCH", {"metadata": {"labels": {"x": "y"}}}, MERGE),
            ("DELETE", None, "application/json"),
        ):
            for query in ("", "?dryRun=All"):
                code, status = await user.ask(method, path + query, body, Content_Type=media_type)
                assert (code, status["reason"]) == (403, "Forbidden")
                assert status["message"] == (
                    'exporters.telemetry.datumapis.com "a" is forbidden: '
                    "it is read from the file acme.yaml: change that"
                )
        assert (await user.ask("POST", EXPORTERS, exporter("a")))[0] == 403
        status = {"status": {"conditions": []}}
        code, written = await user.patch(f"{path}/status", MERGE, status)
        assert (code, written["status"]) == (200, status["status"])


async def test_the_api_keeps_what_is_its_own(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        await user.ask("POST", EXPORTERS, exporter("a", labels={"of": "api"}))
        taken = await sync(api, of_file("a"), of_file("b"))
        assert [one.key.name for one in taken] == ["a"]
        _, shown = await user.ask("GET", f"{EXPORTERS}/a")
        assert shown["metadata"]["labels"] == {"of": "api"}
        forged = exporter("c", annotations={FILE_ANNOTATION: "x"})
        code, status = await user.ask("POST", EXPORTERS, forged)
        assert (code, "only the relay sets it" in status["message"]) == (422, True)
        patch = {"metadata": {"annotations": {FILE_ANNOTATION: "x"}}}
        assert (await user.patch(f"{EXPORTERS}/a", MERGE, patch))[0] == 422
