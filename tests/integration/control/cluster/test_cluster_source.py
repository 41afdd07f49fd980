"""Resources of control planes: Secrets, projects, conflicts, and planes that fail beside others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.config.exporter.load_result import ObjectKey, keep_last_good
from relay.config.exporter.types import ExporterPath
from relay.config.settings.kubernetes import KubernetesProjects, KubernetesSettings, ServerPath
from relay.config.settings.settings import Settings, Storage, TenancySettings
from relay.control.cluster import control_plane, plane_objects, plane_secrets, plane_set
from relay.control.cluster.cluster_source import ClusterSource, StatusTarget
from relay.control.cluster.compose import Sources, make_sources
from relay.control.cluster.resources import EXPORT_POLICIES, EXPORTERS, NAMESPACES, SECRETS
from relay.control.reconcile.desired_state import DesiredState
from relay.runtime.errors import ConfigError
from tests.kit.kubernetes.fake_api import FakeApi, Fault, failing, kubeconfig_of
from tests.kit.processes import eventually
from tests.own_time import patience

LABEL = "example.com/project"
SPEC = {
    "sources": [{"name": "all", "metrics": {"metricsql": "up"}}],
    "sinks": [{"name": "out", "otlp_http": {"endpoint": "https://a.example"}}],
}


def spec_with(secret: str) -> dict[str, Any]:
    access = {"type": "bearerToken", "secretRef": {"name": secret}}
    endpoint = {"endpoint": "https://a.example", "authentication": access}
    return {**SPEC, "sinks": [{"name": "out", "otlp_http": endpoint}]}


def put_exporter(
    api: FakeApi, name: str, namespace: str = "default", *, spec: dict[str, Any] | None = None
) -> None:
    known = api.kind(EXPORTERS.path()).objects.get((namespace, name))
    made = api.new(name, namespace)
    metadata = known["metadata"] if known else made["metadata"]
    head = {"apiVersion": EXPORTERS.api_version, "kind": "Exporter"}
    api.put(EXPORTERS.path(), {**head, "metadata": metadata, "spec": spec or SPEC})


def put_secret(api: FakeApi, name: str, namespace: str = "default", value: str = "YQ==") -> None:
    made = api.new(name, namespace)
    made.pop("spec")
    api.put(
        SECRETS.path(), {"apiVersion": "v1", "kind": "Secret", **made, "data": {"token": value}}
    )


def put_namespace(api: FakeApi, name: str, project: str) -> None:
    known = api.kind(NAMESPACES.path()).objects.get(("", name))
    made = api.new(name, "")
    metadata = dict(known["metadata"] if known else made["metadata"])
    metadata["labels"] = {LABEL: project}
    api.put(NAMESPACES.path(), {"metadata": metadata})


class Rig:
    """The sources of some settings, and the states that they give."""

    def __init__(self, sources: Sources) -> None:
        assert sources.cluster is not None
        self.cluster: ClusterSource = sources.cluster
        self.source = sources.state
        self.state = DesiredState(0, sources.state._loaded)
        self._news = asyncio.Event()

    async def follow(self) -> None:
        async for state in self.source.changes():
            self.state = state
            self._news.set()

    async def until(self, done: Callable[[DesiredState], bool], timeout_s: float = 10) -> None:
        async with patience(timeout_s):
            while not done(self.state):
                self._news.clear()
                await self._news.wait()

    async def runs(self, *expected: str, timeout_s: float = 10) -> None:
        await self.until(lambda state: ids(state) == set(expected), timeout_s)


def ids(state: DesiredState) -> set[str]:
    return {one.id for one in state.loaded.exporters}


def faults(state: DesiredState) -> list[str]:
    return [one.summary for one in state.faults]


@asynccontextmanager
async def rig_of(settings: Settings) -> AsyncIterator[Rig]:
    sources = make_sources(settings)
    rig = Rig(sources)
    await rig.cluster.start()
    try:
        rig.state = await rig.source.load()
        following = asyncio.create_task(rig.follow())
        try:
            yield rig
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    finally:
        await rig.cluster.stop()


def settings_of(
    folder: Path,
    api: FakeApi,
    *,
    projects: KubernetesProjects | None = None,
    namespaces: tuple[str, ...] = (),
    **more: Any,
) -> Settings:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of(api.url))
    return Settings(
        kubernetes=KubernetesSettings(kubeconfig, projects=projects, namespaces=namespaces),
        tenancy=TenancySettings("project") if projects else None,
        **more,
    )


async def test_a_secret_that_may_not_be_watched_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_secrets, "POLL_ABSENT_S", 0.1)
    monkeypatch.setattr(plane_secrets, "POLL_S", 0.3)
    async with FakeApi() as api:
        api.faults.append(
            Fault(failing(403, "Forbidden"), 10_000, lambda one: one.path == SECRETS.path())
        )
        put_exporter(api, "a", spec=spec_with("token"))
        async with rig_of(settings_of(tmp_path, api)) as rig:
            assert ids(rig.state) == set()
            (fault,) = faults(rig.state)
            assert "there is no such secret; create it: kubectl -n default create" in fault
            put_secret(api, "token")
            await rig.runs("default/a")
            before = rig.state.secrets
            put_secret(api, "token", value="Yg==")
            await rig.until(lambda state: state.secrets is not before)
            api.delete(SECRETS.path(), "token")
            await rig.until(lambda state: "there is no such secret" in "".join(faults(state)))


async def test_only_the_secrets_in_use_are_held(tmp_path: Path) -> None:
    count = plane_secrets.LIST_MIN + 50
    async with FakeApi() as api:
        for number in range(count):
            put_exporter(api, f"e{number}", spec=spec_with(f"s{number}"))
            put_secret(api, f"s{number}")
            put_secret(api, f"other{number}", value="c2VjcmV0")
        data = tmp_path / "data"
        settings = settings_of(tmp_path, api, storage=Storage(data))
        async with rig_of(settings) as rig:
            assert len(ids(rig.state)) == count
            (plane,) = rig.cluster.planes
            assert plane.statistics().secrets.held == count
            single = [one for one in api.requests if one.path.startswith("/api/v1/namespaces/")]
            assert len(single) < count / 2, "very many are read from a list"
        kept = data / "kubernetes/cluster"
        written = b"".join(path.read_bytes() for path in kept.iterdir())
        assert b"YQ==" in written
        assert b"c2VjcmV0" not in written
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept.iterdir())


async def test_the_api_may_be_away_at_a_start(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_exporter(api, "a", spec=spec_with("token"))
        put_secret(api, "token")
        settings = settings_of(tmp_path, api, storage=Storage(tmp_path / "data"))
        async with rig_of(settings) as rig:
            assert ids(rig.state) == {"default/a"}
    async with rig_of(settings) as rig:
        assert ids(rig.state) == {"default/a"}
        assert not rig.state.faults
        put_exporter(api, "b")
        await api.open()
        try:
            await rig.runs("default/a", "default/b", timeout_s=30)
        finally:
            await api.close()


async def test_without_a_cache_the_start_says_why_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.control.cluster.cluster_source.START_S", 0.3)
    async with FakeApi() as api:
        settings = settings_of(tmp_path, api)
    async with rig_of(settings) as rig:
        (fault,) = faults(rig.state)
        assert fault.startswith("kubernetes: its objects are not known yet: ")


async def test_a_file_comes_before_an_object_of_its_name(tmp_path: Path) -> None:
    file = tmp_path / "exporters.yaml"
    async with FakeApi() as api:
        put_exporter(api, "a")
        settings = settings_of(tmp_path, api, exporters=(ExporterPath(file),))
        file.write_text(
            "apiVersion: telemetry.datumapis.com/v1alpha1\nkind: Exporter\nmetadata: {name: a}\n"
            "spec:\n  sources: [{name: s, metrics: {metricsql: up}}]\n"
            "  sinks: [{name: o, otlp_http: {endpoint: https://b.example}}]\n"
        )
        async with rig_of(settings) as rig:
            (running,) = rig.state.loaded.exporters
            assert running.origin.startswith(str(file))
            of_file, of_cluster = rig.state.loaded.objects
            assert (of_file.key.source, of_file.conflict) == ("files", False)
            assert (of_cluster.key.source, of_cluster.conflict) == ("kubernetes", True)
            assert of_cluster.exporter is None
            (fault,) = of_cluster.faults
            assert fault.origin == "kubernetes: Exporter default/a"
            assert f"already taken by {file}:1" in fault.message
            file.unlink()
            await rig.until(
                lambda state: (
                    [one.origin for one in state.loaded.exporters]
                    == ["kubernetes: Exporter default/a"]
                )
            )


async def test_a_successor_does_not_get_its_predecessors_version(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_exporter(api, "a")
        async with rig_of(settings_of(tmp_path, api)) as rig:
            running = rig.state.loaded.exporters
            put_exporter(api, "a", spec={**SPEC, "sources": []})
            await rig.runs()
            assert keep_last_good(running, rig.state.loaded).exporters == running
            api.delete(EXPORTERS.path(), "a")
            await rig.until(lambda state: not state.faults)
            put_exporter(api, "a", spec={**SPEC, "sources": []})
            await rig.until(lambda state: bool(state.faults))
            assert keep_last_good(running, rig.state.loaded).exporters == ()
            others = replace(running[0], uid="")
            assert keep_last_good((others,), rig.state.loaded).exporters == (others,)


async def test_the_status_of_an_object_has_its_place(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_exporter(api, "a")
        policy = {**api.new("p"), "apiVersion": EXPORT_POLICIES[1].api_version}
        api.put(EXPORT_POLICIES[1].path(), policy)
        async with rig_of(settings_of(tmp_path, api)) as rig:
            key, of_policy = (one.key for one in rig.state.loaded.objects)
            found = rig.cluster.target(key)
            assert found is not None
            assert (found.resource, found.object.name) == (EXPORTERS, "a")
            assert found.client is rig.cluster.planes[0].client
            target = rig.cluster.target(of_policy, policy["metadata"]["uid"])
            assert target is not None
            assert target.resource is EXPORT_POLICIES[1]
            assert rig.cluster.target(of_policy, "another") is None
            assert rig.cluster.target(ObjectKey("files", *list_of(key)[1:])) is None
            assert rig.cluster.target(replace(key, name="absent")) is None
            assert rig.cluster.target(replace(key, plane="absent")) is None
            stored = api.kind(EXPORTERS.path()).objects["default", "a"]
            api.put(EXPORTERS.path(), {**stored, "status": {"relays": "1 of 1"}})
            await eventually("seen", lambda: has_status(rig.cluster.target(key)), timeout_s=5)


def has_status(target: StatusTarget | None) -> bool:
    return target is not None and bool(target.object.status)


def list_of(key: ObjectKey) -> tuple[Any, ...]:
    return (key.source, key.plane, key.kind, key.project, key.namespace, key.name)


async def test_a_namespace_without_a_project_is_nobodys(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_namespace(api, "shop", "acme")
        put_namespace(api, "odd", "Not A Project")
        for namespace in ("shop", "odd", "unknown"):
            put_exporter(api, "a", namespace)
        settings = settings_of(tmp_path, api, projects=KubernetesProjects(LABEL))
        async with rig_of(settings) as rig:
            assert ids(rig.state) == {"acme/shop/a"}
            fault, told = faults(rig.state)
            assert fault.startswith(
                f'kubernetes: Namespace odd: metadata.labels["{LABEL}"]: is not'
            )
            assert told.startswith(
                "kubernetes: Exporter odd/a: metadata.namespace: the Namespace odd belongs to no "
                f"project: have its platform set the label {LABEL} on it"
            )
            refused = [one for one in rig.state.loaded.objects if one.exporter is None]
            assert [(one.key.project, one.key.namespace) for one in refused] == [("", "odd")]
            put_namespace(api, "odd", "umbrella")
            await rig.runs("acme/shop/a", "umbrella/odd/a")
            assert not faults(rig.state)
            api.delete(NAMESPACES.path(), "shop", "")
            await rig.runs("umbrella/odd/a")


async def test_other_namespaces_do_not_count(tmp_path: Path) -> None:
    async with FakeApi() as api:
        for namespace in ("a", "b", "c"):
            put_exporter(api, "e", namespace)
        async with rig_of(settings_of(tmp_path, api, namespaces=("a", "b"))) as rig:
            assert ids(rig.state) == {"a/e", "b/e"}
        api.requests.clear()
        async with rig_of(settings_of(tmp_path, api, namespaces=("c",))) as rig:
            assert ids(rig.state) == {"c/e"}
            asked = {one.path for one in api.requests if "exporters" in one.path}
            assert asked == {EXPORTERS.path("c")}


async def test_each_project_has_its_own_control_plane_below_a_server(tmp_path: Path) -> None:
    below = KubernetesProjects(server_path=ServerPath("/projects/{project}", ("acme", "umbrella")))
    async with FakeApi() as api:
        put_exporter(api, "a")
        async with rig_of(settings_of(tmp_path, api, projects=below)) as rig:
            assert ids(rig.state) == {"acme/default/a", "umbrella/default/a"}
            assert [plane.name for plane in rig.cluster.planes] == ["acme", "umbrella"]
            results = rig.state.loaded.objects
            assert {one.key.plane for one in results} == {"acme", "umbrella"}
            assert not any(one.conflict for one in results)
            targets = [rig.cluster.target(one.key, one.uid) for one in results]
            clients = [one.client for one in targets if one is not None]
            assert clients == [plane.client for plane in rig.cluster.planes]
            assert max(api.connections_by_prefix.values()) <= 3


async def test_a_directory_of_kubeconfigs_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_set, "DIRECTORY_INTERVAL_S", 0.05)
    folder = tmp_path / "planes"
    folder.mkdir()
    settings = Settings(
        kubernetes=KubernetesSettings(projects=KubernetesProjects(kubeconfigs=folder)),
        tenancy=TenancySettings("project"),
    )
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(FakeApi()) for _ in range(2)]
        put_exporter(first, "a")
        put_exporter(second, "b")
        (folder / "acme.yaml").write_text(kubeconfig_of(first.url))
        rig = await stack.enter_async_context(rig_of(settings))
        assert ids(rig.state) == {"acme/default/a"}
        (folder / "umbrella").write_text(kubeconfig_of(second.url))
        await rig.runs("acme/default/a", "umbrella/default/b")
        (folder / "acme.yaml").write_text("clusters: 7")
        (folder / "Not A Project.yaml").write_text("")
        await rig.until(lambda state: len(state.faults) >= 2)
        assert ids(rig.state) == {"acme/default/a", "umbrella/default/b"}
        (folder / "acme.yaml").write_text(kubeconfig_of(second.url))
        await rig.runs("acme/default/b", "umbrella/default/b")
        (folder / "umbrella").unlink()
        await rig.runs("acme/default/b")
        folder.rename(tmp_path / "away")
        await rig.until(lambda state: "cannot be read" in "".join(faults(state)))
        assert ids(rig.state) == {"acme/default/b"}


async def test_the_only_kubeconfig_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_set, "DIRECTORY_INTERVAL_S", 0.05)
    file = tmp_path / "kubeconfig"
    async with FakeApi() as first, FakeApi() as second:
        put_exporter(first, "a")
        put_exporter(second, "b")
        file.write_text(kubeconfig_of(first.url))
        settings = Settings(kubernetes=KubernetesSettings(kubeconfig=file))
        async with rig_of(settings) as rig:
            assert ids(rig.state) == {"default/a"}
            client = rig.cluster.planes[0].client
            file.write_text("clusters: 7")
            await rig.until(lambda state: bool(state.faults))
            assert ids(rig.state) == {"default/a"}
            file.unlink()
            await rig.until(lambda state: "No such file" in "".join(faults(state)))
            assert ids(rig.state) == {"default/a"}
            file.write_text(kubeconfig_of(second.url))
            await rig.runs("default/b")
            await rig.until(lambda state: not state.faults)
            assert rig.cluster.planes[0].client is client
            assert client.access.server == second.url


async def test_what_the_disk_has_of_a_project_goes_with_its_control_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Secrets above all: also if it went while no relay ran, not while its file is faulty."""
    monkeypatch.setattr(plane_set, "DIRECTORY_INTERVAL_S", 0.05)
    monkeypatch.setattr(plane_secrets, "SAVE_S", 0.05)
    folder, cache = tmp_path / "planes", tmp_path / "data" / "kubernetes"
    folder.mkdir()
    settings = Settings(
        kubernetes=KubernetesSettings(projects=KubernetesProjects(kubeconfigs=folder)),
        tenancy=TenancySettings("project"),
        storage=Storage(tmp_path / "data"),
    )

    def on_disk() -> set[str]:
        return {path.parent.name for path in cache.glob("*/secrets")}

    async with FakeApi() as api:
        put_secret(api, "token", value="c2VjcmV0")
        put_exporter(api, "a", spec=spec_with("token"))
        for name in ("acme", "globex", "umbrella"):
            (folder / name).write_text(kubeconfig_of(api.url))
        async with rig_of(settings) as rig:
            every = {"acme", "globex", "umbrella"}
            await eventually("their Secrets are there", lambda: on_disk() == every, timeout_s=10)
            (folder / "acme").unlink()
            await rig.runs("globex/default/a", "umbrella/default/a")
            await eventually("they are gone", lambda: not (cache / "acme").exists(), timeout_s=10)
        assert on_disk() == {"globex", "umbrella"}
        (folder / "globex").unlink()
        (folder / "umbrella").write_text("clusters: 7")
        async with rig_of(settings):
            assert on_disk() == {"umbrella"}
            assert not (cache / "globex").exists()
        folder.rename(tmp_path / "away")
        async with rig_of(settings):
            assert on_disk() == {"umbrella"}


async def test_a_bug_costs_one_control_plane_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control_plane, "RESTART_S", 0.05)
    apply = plane_objects.PlaneObjects.apply

    def failing_apply(self: plane_objects.PlaneObjects, *given: Any) -> bool:
        if self._name == "acme":
            raise ZeroDivisionError
        return apply(self, *given)

    monkeypatch.setattr(plane_objects.PlaneObjects, "apply", failing_apply)
    below = KubernetesProjects(server_path=ServerPath("/{project}", ("acme", "umbrella")))
    async with FakeApi() as api:
        put_exporter(api, "a")
        async with rig_of(settings_of(tmp_path, api, projects=below)) as rig:
            assert ids(rig.state) == {"umbrella/default/a"}
            assert {one.name: one.bugs > 0 for one in rig.cluster.planes} == {
                "acme": True,
                "umbrella": False,
            }
    assert "bug in the relay: objects are not read" in caplog.text


async def test_a_faulty_kubeconfig_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("clusters: 7")
    sources = make_sources(Settings(kubernetes=KubernetesSettings(tmp_path / "kubeconfig")))
    assert sources.cluster is not None
    with pytest.raises(ConfigError) as caught:
        await sources.cluster.start()
    assert str(tmp_path / "kubeconfig") in str(caught.value)


async def test_a_finalizer_alone_changes_nothing(tmp_path: Path) -> None:
    async with FakeApi() as api:
        put_exporter(api, "a")
        async with rig_of(settings_of(tmp_path, api)) as rig:
            before = rig.state
            revision = rig.cluster.revision
            one = api.kind(EXPORTERS.path()).objects["default", "a"]
            metadata = {**one["metadata"], "finalizers": ["example.com/theirs"]}
            api.put(EXPORTERS.path(), {**one, "metadata": metadata})
            await eventually("it is seen", lambda: rig.cluster.revision != revision, timeout_s=5)
            (seen,) = rig.cluster.seen()
            assert seen.object.finalizers == ("example.com/theirs",)
            await asyncio.sleep(0.5)  # nothing may happen now
            assert rig.state is before
            api.delete(EXPORTERS.path(), "a")
            await rig.runs()
            (seen,) = rig.cluster.seen()
            assert seen.object.deleting, "others hold it; it runs no longer"
