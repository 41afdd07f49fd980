"""The contract of every source of the desired state, and of the reloader with any of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
import yaml

from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.loading.combine import Combiner
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter, ExporterPath, SecretRef
from relay.config.inventory_manifests import InventoryLoad
from relay.config.settings.kubernetes import KubernetesSettings
from relay.config.settings.settings import Settings, Watch
from relay.control.cluster.cluster_source import ClusterSource
from relay.control.cluster.compose import make_sources
from relay.control.cluster.control_plane import PlaneOptions
from relay.control.cluster.plane_set import PlaneSet
from relay.control.cluster.resources import EXPORTERS, SECRET_VERSIONS
from relay.control.reconcile.combined_source import CombinedSource
from relay.control.reconcile.desired_state import DesiredState, DesiredStateSource
from relay.control.reconcile.diff import Changes, Differences, compare
from relay.control.reconcile.reloader import Reloader
from relay.runtime.errors import ConfigError, Fault, SecretError
from relay.selector.inventory.store import ManifestIndex
from relay.sink.spill.owner import Owner
from tests.kit.ingest_server import eventually
from tests.kit.kubernetes.fake_api import FakeApi, kubeconfig_of
from tests.own_time import patience

TIMEOUT_S = 20.0
EXPORTER_PATH, SECRET_PATH = EXPORTERS.path(), "/api/v1/secrets"
MANIFEST = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: {name}}}
spec:
  sources:
    - {{name: all, metrics: {{metricsql: '{{edition="{edition}"}}'}}}}
  sinks:
    - name: s
      otlp_http:
        endpoint: "https://example.com"
        authentication: {{type: bearerToken, secretRef: {{name: credentials, key: token}}}}
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {{name: credentials}}
stringData: {{token: {token}}}
"""


class Driver(Protocol):
    """Edits the objects behind a source, as their author would."""

    source: DesiredStateSource

    def put(self, name: str, edition: int = 1) -> None:
        """Add an exporter, or replace it by another edition."""

    def put_faulty(self, name: str) -> None:
        """Add or replace an exporter by one that cannot run."""

    def remove(self, name: str) -> None:
        """Remove an exporter."""

    def put_secret(self, token: str) -> None:
        """Set the key ``token`` of the Secret ``credentials`` in namespace ``default``."""


class Files:
    """Manifests in one directory, replaced by an atomic rename."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "exporters"
        self._directory.mkdir()
        self.put_secret("first")
        paths = (ExporterPath(self._directory),)
        self.source = make_sources(Settings(exporters=paths, watch=Watch(interval_s=0.05))).state

    def _write(self, name: str, text: str) -> None:
        fresh = self._directory / f".{name}"
        fresh.write_text(text)
        fresh.rename(self._directory / f"{name}.yaml")

    def put(self, name: str, edition: int = 1) -> None:
        self._write(name, MANIFEST.format(name=name, edition=edition))

    def put_faulty(self, name: str) -> None:
        self._write(name, MANIFEST.format(name=name, edition=1).replace("otlp_http", "kafka"))

    def remove(self, name: str) -> None:
        (self._directory / f"{name}.yaml").unlink()

    def put_secret(self, token: str) -> None:
        self._write("credentials", SECRET.format(token=token))


class MemorySource:
    """Objects in memory; the smallest source there can be."""

    def __init__(self) -> None:
        self.exporters: dict[str, Exporter] = {}
        self.faults: dict[str, Fault] = {}
        self.token = "first"
        self._given_token = ""
        self._version = 0
        self._loaded = LoadResult((), (), SecretStore())
        self._inventory = InventoryLoad()
        self._changed = asyncio.Event()

    def note_change(self) -> None:
        self._changed.set()

    async def load(self) -> DesiredState:
        return self._state()

    def is_deleted(self, owner: Owner) -> bool:
        return owner.exporter not in self.exporters

    async def changes(self) -> AsyncGenerator[DesiredState, None]:
        while True:
            await self._changed.wait()
            yield self._state()

    def _state(self) -> DesiredState:
        if self._changed.is_set() or not self._version:
            self._changed.clear()
            secrets = SecretStore()
            secrets.add("", "default", "credentials", {"token": self.token.encode()})
            is_new, self._given_token = self.token != self._given_token, self.token
            self._loaded = LoadResult(
                tuple(self.exporters.values()),
                tuple(self.faults.values()),
                secrets,
                faulty=frozenset(self.faults),
                renewed=frozenset({("", "default")} if is_new else ()),
            )
        self._version += 1
        return DesiredState(self._version, self._loaded, self._inventory)


class Memory:
    """Edits a :class:`MemorySource`."""

    def __init__(self, root: Path) -> None:
        del root
        self.source = MemorySource()

    def put(self, name: str, edition: int = 1) -> None:
        exporter = Exporter("", "default", name, (), (), uid=str(edition), origin=f"memory:{name}")
        self.source.exporters[exporter.id] = exporter
        self.source.faults.pop(exporter.id, None)
        self.source.note_change()

    def put_faulty(self, name: str) -> None:
        self.remove(name)
        self.source.faults[f"default/{name}"] = Fault("spec", "cannot run", f"memory:{name}")

    def remove(self, name: str) -> None:
        self.source.exporters.pop(f"default/{name}", None)
        self.source.faults.pop(f"default/{name}", None)
        self.source.note_change()

    def put_secret(self, token: str) -> None:
        self.source.token = token
        self.source.note_change()


class WatchedSource(CombinedSource):
    """Loads when everything was seen: what is watched is there a moment later."""

    has_seen_all: Callable[[], bool]

    async def load(self) -> DesiredState:
        await eventually(self.has_seen_all)
        await asyncio.sleep(0.05)  # a Secret's version is seen a moment before it is due
        await eventually(self.has_seen_all)
        return await super().load()


class Cluster:
    """Objects of a control plane, which is watched."""

    def __init__(self, root: Path) -> None:
        self._api = FakeApi()
        self._root = root
        self.put_secret("first")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the objects, and watch them."""
        async with self._api:
            kubeconfig = self._root / "kubeconfig"
            kubeconfig.write_text(kubeconfig_of(self._api.url))
            settings = KubernetesSettings(kubeconfig)
            planes = PlaneSet(settings, options=PlaneOptions(turn_s=0.02))
            cluster = ClusterSource(settings, planes, debounce_s=0.01)
            self.source = WatchedSource((cluster,), Combiner(), asyncio.Lock())
            self.source.has_seen_all = lambda: self._has_seen_all(cluster)
            await cluster.start()
            try:
                yield
            finally:
                await cluster.stop()

    def _has_seen_all(self, cluster: ClusterSource) -> bool:
        (plane,) = cluster.planes
        for resource, path in ((EXPORTERS, EXPORTER_PATH), (SECRET_VERSIONS, SECRET_PATH)):
            objects = self._api.kind(path).objects
            for key in {*objects, *plane.objects(resource)}:
                seen, there = plane.latest(resource, key), objects.get(key)
                version = there["metadata"]["resourceVersion"] if there else None
                if (seen.resource_version if seen else None) != version:
                    return False
        return plane.is_ready and not plane.secrets.due

    def put(self, name: str, edition: int = 1) -> None:
        self._put(name, MANIFEST.format(name=name, edition=edition))

    def put_faulty(self, name: str) -> None:
        self._put(name, MANIFEST.format(name=name, edition=1).replace("otlp_http", "kafka"))

    def _put(self, name: str, text: str) -> None:
        document = yaml.safe_load(text)
        known = self._api.kind(EXPORTER_PATH).objects.get(("default", name))
        metadata = known["metadata"] if known else self._api.new(name)["metadata"]
        document["metadata"] = {**metadata, **document["metadata"], "namespace": "default"}
        self._api.put(EXPORTER_PATH, document)

    def remove(self, name: str) -> None:
        self._api.delete(EXPORTER_PATH, name)

    def put_secret(self, token: str) -> None:
        known = self._api.kind(SECRET_PATH).objects.get(("default", "credentials"))
        metadata = known["metadata"] if known else self._api.new("credentials")["metadata"]
        data = {"token": base64.b64encode(token.encode()).decode()}
        document = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        self._api.put(SECRET_PATH, document)


@pytest.fixture(params=[Files, Memory, Cluster])
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Driver]:
    made = request.param(tmp_path)
    if isinstance(made, Cluster):
        async with made.running():
            yield made
    else:
        yield made


def ids(state: DesiredState) -> set[str]:
    return {exporter.id for exporter in state.loaded.exporters}


def token(state: DesiredState) -> str:
    return state.secrets.get("", "default", SecretRef("credentials", "token"))


async def test_a_state_names_objects_and_their_origins(driver: Driver) -> None:
    driver.put("a")
    driver.put("b")
    state = await driver.source.load()
    assert ids(state) == {"default/a", "default/b"}
    assert not state.faults
    assert all(exporter.origin for exporter in state.loaded.exporters)
    assert len({exporter.origin for exporter in state.loaded.exporters}) == 2


async def test_an_empty_source_has_an_empty_state(driver: Driver) -> None:
    state = await driver.source.load()
    assert not state.loaded.exporters
    assert not state.faults


async def test_loading_again_gives_equal_objects_and_a_higher_version(driver: Driver) -> None:
    driver.put("a")
    first = await driver.source.load()
    second = await driver.source.load()
    assert second.loaded.exporters == first.loaded.exporters
    assert second.loaded.exporters[0] is first.loaded.exporters[0]
    assert second.inventory is first.inventory
    assert second.version > first.version


async def test_a_faulty_object_is_reported_and_hides_no_other(driver: Driver) -> None:
    driver.put("a")
    driver.put_faulty("b")
    state = await driver.source.load()
    assert ids(state) == {"default/a"}
    assert state.loaded.faulty == {"default/b"}
    assert state.faults
    assert all(fault.origin for fault in state.faults)


async def test_secrets_are_those_of_the_state(driver: Driver) -> None:
    driver.put("a")
    state = await driver.source.load()
    assert token(state) == "first"
    driver.put_secret("second")
    newer = await driver.source.load()
    assert token(newer) == "second"
    assert ("", "default") in newer.loaded.renewed
    with pytest.raises(SecretError):
        newer.secrets.get("", "other", SecretRef("credentials", "token"))


async def test_changes_are_given_as_they_come(driver: Driver) -> None:
    driver.put("a")
    version = (await driver.source.load()).version
    edits: list[tuple[Callable[[], None], Callable[[DesiredState], bool]]] = [
        (lambda: driver.put("b"), lambda state: ids(state) == {"default/a", "default/b"}),
        (lambda: driver.put_faulty("b"), lambda state: state.loaded.faulty == {"default/b"}),
        (lambda: driver.put("b", 2), lambda state: not state.faults and len(ids(state)) == 2),
        (lambda: driver.remove("a"), lambda state: ids(state) == {"default/b"}),
        (lambda: driver.put_secret("second"), lambda state: token(state) == "second"),
    ]
    async with patience(TIMEOUT_S), aclosing(driver.source.changes()) as states:
        for edit, seen in edits:
            edit()
            async for state in states:
                assert state.version > version
                version = state.version
                if seen(state):
                    break


async def test_an_unchanged_object_stays_the_same(driver: Driver) -> None:
    driver.put("a")
    before = await driver.source.load()
    driver.put("b")
    async with patience(TIMEOUT_S):
        state = await first_of(driver.source, lambda state: len(ids(state)) == 2)
    after = next(one for one in state.loaded.exporters if one.id == "default/a")
    assert after is before.loaded.exporters[0]


async def test_a_new_iterator_goes_on_where_the_last_one_ended(driver: Driver) -> None:
    driver.put("a")
    await driver.source.load()
    async with patience(TIMEOUT_S):
        driver.put("b")
        await first_of(driver.source, lambda state: len(ids(state)) == 2)
        driver.put("c")  # while no iterator is open
        await first_of(driver.source, lambda state: len(ids(state)) == 3)


async def test_loading_while_an_iterator_waits(driver: Driver) -> None:
    driver.put("a")
    await driver.source.load()
    waiting = asyncio.create_task(first_of(driver.source, lambda state: "default/c" in ids(state)))
    async with patience(TIMEOUT_S):
        await asyncio.sleep(0.1)
        driver.put("b")
        loaded = await driver.source.load()
        assert ids(loaded) == {"default/a", "default/b"}
        driver.put("c")
        state = await waiting
    assert state.version > loaded.version


async def first_of(
    source: DesiredStateSource, wanted: Callable[[DesiredState], bool]
) -> DesiredState:
    async with aclosing(source.changes()) as states:
        async for state in states:
            if wanted(state):
                return state
    raise AssertionError("the iterator has ended")


# -- the reloader with any source ------------------------------------------------------------------


class RecordingReconciler:
    """Takes the place of the sinks: applies at once and records what was asked."""

    def __init__(self) -> None:
        self.running: dict[str, Exporter] = {}
        self.reread: list[object] = []
        self.complete: list[bool] = []

    @property
    def exporters(self) -> Iterable[Exporter]:
        return self.running.values()

    def compare(self, exporters: Iterable[Exporter]) -> Differences:
        return compare(self.running, exporters)

    async def apply(self, differences: Differences) -> Changes:
        self.running = dict(differences.wanted)
        return Changes(differences.added, differences.changed, differences.removed)

    def keep_orphans(self, *, complete: bool, **_: object) -> None:
        self.complete.append(complete)

    def reread_secrets(self, namespaces: object = None) -> None:
        self.reread.append(namespaces)


async def ignore_inventory(index: ManifestIndex) -> None:
    del index


def reloader_of(
    source: DesiredStateSource,
    reconciler: RecordingReconciler,
    set_inventory: Callable[[ManifestIndex], Awaitable[None]] = ignore_inventory,
) -> Reloader:
    return Reloader(source, reconciler, set_inventory)  # type: ignore[arg-type]


async def test_the_reloader_applies_what_a_source_gives(driver: Driver) -> None:
    driver.put("a")
    reconciler = RecordingReconciler()
    reloader = reloader_of(driver.source, reconciler)
    await reloader.start()
    assert set(reconciler.running) == {"default/a"}
    watching = asyncio.create_task(reloader.watch())
    driver.put("b")
    await eventually(lambda: len(reconciler.running) == 2)
    edition_one = reconciler.running["default/b"]
    driver.put_faulty("b")
    await eventually(lambda: bool(reloader.faults))
    assert reconciler.running["default/b"] is edition_one, "the last good version runs on"
    assert not reconciler.complete[-1]
    driver.remove("b")
    await eventually(lambda: set(reconciler.running) == {"default/a"})
    reconciler.reread.clear()
    driver.put_secret("second")
    await eventually(lambda: frozenset({("", "default")}) in reconciler.reread)
    assert reloader.secrets.get("", "default", SecretRef("credentials", "token")) == "second"
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert reloader.statistics().failures == 0


async def test_the_reloader_refuses_to_start_with_faults_alone(driver: Driver) -> None:
    driver.put_faulty("a")
    with pytest.raises(ConfigError):
        await reloader_of(driver.source, RecordingReconciler()).start()


async def test_a_reload_takes_effect_at_once(driver: Driver) -> None:
    driver.put("a")
    reconciler = RecordingReconciler()
    reloader = reloader_of(driver.source, reconciler)
    await reloader.start()
    driver.put("a", 2)
    assert (await reloader.reload()).changed == ("default/a",)
    assert reconciler.reread[-1] is None, "all secrets are read again"
    assert not await reloader.reload()


class OutOfOrder(MemorySource):
    """Gives an older state after a newer one, then fails once."""

    def __init__(self, states: list[DesiredState]) -> None:
        super().__init__()
        self._states, self.failures = states, 0

    async def load(self) -> DesiredState:
        return self._states[0]

    async def changes(self) -> AsyncGenerator[DesiredState, None]:
        for state in self._states[1:]:
            yield state
        if not self.failures:
            self.failures += 1
            raise RuntimeError("a bug in a source")
        await asyncio.Event().wait()


async def test_an_older_state_is_not_applied_and_a_failing_source_is_watched_on() -> None:
    def state(version: int, *names: str) -> DesiredState:
        exporters = tuple(Exporter("", "default", name, (), ()) for name in names)
        return DesiredState(version, LoadResult(exporters, (), SecretStore()))

    source = OutOfOrder([state(1, "a"), state(3, "a", "b"), state(2, "old")])
    reconciler = RecordingReconciler()
    reloader = reloader_of(source, reconciler)
    await reloader.start()
    watching = asyncio.create_task(reloader.watch())
    await eventually(lambda: reloader.statistics().failures == 1)
    assert set(reconciler.running) == {"default/a", "default/b"}
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
