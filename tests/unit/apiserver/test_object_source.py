"""The API's objects as a source: changes are read again, Secrets given where referred to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver.http.file_objects import FileObject
from relay.apiserver.object_source import PAUSE_MAX_S, ApiResources, pause_after
from relay.apiserver.objects.kinds import served_kinds
from relay.apiserver.store import event_ring
from relay.config.exporter.loading.resource import ManifestResource
from relay.control.reconcile.resource_source import SourceResources
from relay.sink.spill.owner import owner_of
from tests.kit.apiserver.running import (
    ADMIN,
    EXPORTERS,
    SECRETS,
    exporter,
    local_api,
    secret,
    tokens,
)
from tests.own_time import within

ACME = "/projects/acme"
MERGE = "application/merge-patch+json"


def with_secret(name: str) -> dict[str, Any]:
    made = exporter(name)
    authentication = {"type": "bearerToken", "secretRef": {"name": "tok", "key": "token"}}
    made["spec"]["sinks"][0]["otlp_http"]["authentication"] = authentication
    return made


def resources(state: SourceResources) -> list[ManifestResource]:
    return [one for origin in state.origins for one in origin.resources]


def names(state: SourceResources) -> list[str]:
    return [
        f"{one.exporter.project}/{one.exporter.namespace}/{one.exporter.name}"
        for one in resources(state)
        if one.exporter is not None
    ]


async def next_of(source: ApiResources) -> SourceResources:
    iterator = source.changes()
    try:
        return await within(10, anext(iterator))
    finally:
        await iterator.aclose()


async def test_objects_come_change_and_go(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        source = ApiResources(api.server.objects, debounce_s=0.0)
        assert names(await source.read()) == []
        for name in ("a", "b"):
            await user.ask("POST", EXPORTERS, exporter(name))
        first = await next_of(source)
        assert names(first) == ["/default/a", "/default/b"]
        (a, b) = resources(first)
        status = {"status": {"conditions": [{"type": "Accepted", "status": "True"}]}}
        await user.patch(f"{EXPORTERS}/a/status", MERGE, status)
        change = {"spec": {"sinks": [exporter()["spec"]["sinks"][0] | {"name": "two"}]}}
        await user.patch(f"{EXPORTERS}/b", MERGE, change)
        second = await next_of(source)
        assert resources(second)[0] is a  # a status is no change
        assert resources(second)[1] is not b
        await user.ask("DELETE", f"{EXPORTERS}/a")
        assert names(await next_of(source)) == ["/default/b"]


async def test_a_secret_is_given_where_it_is_referred_to(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        source = ApiResources(api.server.objects, debounce_s=0.0)
        await user.ask("POST", SECRETS, secret(token="one"))
        await user.ask("POST", EXPORTERS, exporter("a"))
        assert len(resources(await source.read())) == 1
        await user.ask("POST", EXPORTERS, with_secret("b"))
        state = await next_of(source)
        data = [one.data for one in resources(state) if one.data is not None]
        assert data == [{"token": b"one"}]
        await user.patch(f"{SECRETS}/tok", MERGE, {"stringData": {"token": "two"}})
        data = [one.data for one in resources(await next_of(source)) if one.data is not None]
        assert data == [{"token": b"two"}]
        await user.ask("DELETE", f"{SECRETS}/tok")
        assert len(resources(await next_of(source))) == 2


async def test_projects_are_apart_and_files_are_left_out(tmp_path: Path) -> None:
    async with local_api(tmp_path, users=tokens("acme", "other"), tenancy=True) as api:
        user = api.user(ADMIN)
        for project in ("acme", "other"):
            await user.ask("POST", f"/projects/{project}{EXPORTERS}", exporter("x"))
        source = ApiResources(api.server.objects, debounce_s=0.0)
        state = await source.read()
        assert names(state) == ["acme/default/x", "other/default/x"]
    folder = tmp_path / "files"
    folder.mkdir()
    async with local_api(folder) as api:
        service = api.server._service
        assert service is not None
        kind = next(kind for kind in served_kinds() if kind.kind == "Exporter")
        await service.files.sync([kind], [FileObject(kind, "", exporter("f"), "f.yaml")])
        await api.user(ADMIN).ask("POST", EXPORTERS, exporter("own"))
        source = ApiResources(api.server.objects, debounce_s=0.0)
        assert names(await source.read()) == ["/default/own"]


async def test_what_was_missed_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"events_max": 2, "bytes_max": 1 << 20}
    monkeypatch.setattr(event_ring.EventRing.__init__, "__kwdefaults__", limits)
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        source = ApiResources(api.server.objects, debounce_s=0.0)
        await user.ask("POST", EXPORTERS, exporter("gone"))
        assert names(await source.read()) == ["/default/gone"]
        await user.ask("DELETE", f"{EXPORTERS}/gone")
        for name in ("a", "b", "c"):
            await user.ask("POST", EXPORTERS, exporter(name))
        assert names(await next_of(source)) == ["/default/a", "/default/b", "/default/c"]


def test_a_state_that_takes_long_is_followed_by_a_longer_pause() -> None:
    assert pause_after(0.001) < 0.02
    assert pause_after(0.15) == pytest.approx(1.5)
    assert pause_after(60.0) == PAUSE_MAX_S


async def test_after_a_pause_all_that_has_changed_is_one_state(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        source = ApiResources(api.server.objects, debounce_s=0.0)
        await source.read()
        await user.ask("POST", EXPORTERS, exporter("a"))
        assert names(await next_of(source)) == ["/default/a"]
        source._next_at_s += 0.2
        waiting = asyncio.ensure_future(next_of(source))
        for name in ("b", "c"):
            await user.ask("POST", EXPORTERS, exporter(name))
        assert names(await waiting) == ["/default/a", "/default/b", "/default/c"]


async def test_what_tenancy_does_not_reach_is_kept_and_does_not_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_api(tmp_path, users=tokens("acme"), tenancy=True) as api:
        code, of_acme = await api.user(ADMIN).ask("POST", ACME + EXPORTERS, exporter("theirs"))
        assert code == 201
        (running,) = resources(await ApiResources(api.server.objects).read())
        owner = owner_of(running.exporter, running.exporter.sinks[0])
    async with local_api(tmp_path) as api:
        source = ApiResources(api.server.objects)
        assert names(await source.read()) == []
        assert not source.is_deleted(owner), "its queue on disk is kept"
        assert (await api.user(ADMIN).ask("GET", EXPORTERS))[1]["items"] == []
        assert (await api.user(ADMIN).ask("POST", EXPORTERS, exporter("ours")))[0] == 201
        assert names(await source.read()) == ["/default/ours"]
        assert "objects of projects are kept" in caplog.text
    async with local_api(tmp_path, users=tokens("acme"), tenancy=True) as api:
        assert names(await ApiResources(api.server.objects).read()) == ["acme/default/theirs"]
        code, found = await api.user(ADMIN).ask("GET", f"{ACME}{EXPORTERS}/theirs")
        assert (code, found["metadata"]) == (200, of_acme["metadata"])
        assert "objects of no project are kept" in caplog.text


async def test_an_object_of_another_database_is_not_deleted(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        user = api.user(ADMIN)
        source = ApiResources(api.server.objects)
        await user.ask("POST", EXPORTERS, exporter("one"))
        (running,) = resources(await source.read())
        owner = owner_of(running.exporter, running.exporter.sinks[0])
        assert not source.is_deleted(owner)
        assert (await user.ask("DELETE", f"{EXPORTERS}/one"))[0] == 200
        assert source.is_deleted(owner)
    async with local_api(tmp_path) as api:
        assert ApiResources(api.server.objects).is_deleted(owner)
    (tmp_path / "api.db").unlink()
    async with local_api(tmp_path) as api:
        assert not ApiResources(api.server.objects).is_deleted(owner)
