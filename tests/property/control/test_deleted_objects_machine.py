"""Objects that come, change, go and come anew, over restarts: none gets what is another's.

The reloader, the reconciler, its workers and their store are the real ones; the source of objects
and the endpoints are in memory. Batches are offered to workers directly, each value once.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import (
    Authentication,
    Exporter,
    OtlpHttp,
    RetrySettings,
    SecretRef,
    Sink,
)
from relay.config.settings.settings import Settings
from relay.control.build_pipeline import make_engine
from relay.control.reconcile.desired_state import DesiredState
from relay.control.reconcile.reconciler import SinkReconciler
from relay.control.reconcile.reloader import Reloader
from relay.selector.inventory.store import ManifestIndex
from relay.sink.build import SinkDependencies, SinkEnvironment, build_worker
from relay.sink.http.interface import HttpRequest
from relay.sink.http.response import HttpFailure, HttpResponse
from relay.sink.interface import SinkHost
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.spill.owner import Owner
from relay.sink.spill.store import QueueStore, SinkStore
from relay.sink.worker import SinkWorker
from tests.kit.batches import sealed_batch
from tests.kit.examples import examples
from tests.kit.holds import Holds
from tests.kit.sink.kinds import values_of_otlp

DRAIN_S = 0.05
SLACK_S = 2.0
NAMES = st.sampled_from("ab")


@dataclass
class Cluster:
    """Objects and Secrets as the API has them; implements DesiredStateSource."""

    objects: dict[str, Exporter] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    version: int = 0

    async def load(self) -> DesiredState:
        self.version += 1
        secrets = SecretStore()
        for name, token in self.tokens.items():
            secrets.add("", "ns", name, {"token": token.encode()})
        loaded = LoadResult(tuple(self.objects.values()), (), secrets)
        return DesiredState(self.version, loaded)

    def changes(self) -> AsyncGenerator[DesiredState, None]:
        raise AssertionError("the test reloads")

    def is_deleted(self, owner: Owner) -> bool:
        return owner.uid not in {one.uid for one in self.objects.values()}


@dataclass
class Endpoints:
    """All endpoints, by the uid in their host name; implements HttpClient."""

    down: set[str] = field(default_factory=set)
    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)

    async def post(self, request: HttpRequest) -> HttpResponse | HttpFailure:
        await asyncio.sleep(0)
        uid = (urlsplit(request.to.url).hostname or "").partition(".")[0]
        if uid in self.down:
            return HttpFailure("connect_failed", "nobody is there")
        if request.to.headers.get("Authorization") != f"Bearer {uid}":
            self.faults.append(f"{uid} was sent {request.to.headers}")
        self.taken[uid] += values_of_otlp(request.body)
        return HttpResponse(200, {}, b"")

    async def close(self) -> None:
        """Nothing is open."""


class Life:
    """One process from its start to its end."""

    def __init__(self, cluster: Cluster, endpoints: Endpoints, path: Path | None) -> None:
        self.path = path
        self.store = QueueStore(path, bytes_max=1 << 24, sync=False) if path else None
        if self.store is not None:
            self.store.open()
        rng = random.Random(1)
        self.memory = BufferedBytes()
        self.holds = Holds()
        circuits = CircuitBreakers(rng)
        self._environment = SinkEnvironment(
            endpoints,  # type: ignore[arg-type]
            self.holds,
            rng,
            circuits,
            memory=self.memory,
        )
        self.reconciler = SinkReconciler(
            make_engine(Settings(), since=time.time()),
            self._worker,
            drain_timeout_s=DRAIN_S,
            store=self.store,
            memory=self.memory,
        )
        self.reloader = Reloader(cluster, self.reconciler, self._inventory, may_be_empty=True)
        self.offered: dict[str, int] = defaultdict(int)
        self.position = 0
        self.deleted_at: dict[str, float] = {}

    def _worker(
        self, exporter: Exporter, sink: Sink, store: SinkStore | None, host: SinkHost
    ) -> SinkWorker:
        secrets = self.reloader.secrets_of(exporter)
        dependencies = SinkDependencies(self._environment, secrets, store, host)
        return build_worker(sink.name, exporter.id, sink, dependencies)

    async def _inventory(self, _: ManifestIndex) -> None:
        """There is none."""

    async def start(self) -> None:
        await self.reloader.start()
        for one in self.reconciler.exporters:
            worker = self.reconciler.worker(one.id, "out")
            assert worker is not None
            self.offered[one.uid] += worker.restored_points
        self.reconciler.start()

    def offer(self, exporter: Exporter, values: list[float]) -> None:
        entry = self.reconciler.running(exporter.id).entries["out"]  # type: ignore[union-attr]
        self.position += 1
        self.holds.hold(self.position)
        entry.counter.points += len(values)
        entry.worker.offer(sealed_batch(values, position=self.position, opened_at=time.time()), 0)
        self.offered[exporter.uid] += len(values)

    async def stop(self) -> None:
        await self.reconciler.drain(DRAIN_S)
        if self.store is not None:
            await self.store.close()

    async def die(self, image: Path) -> None:
        """End as if killed: ``image`` gets the queues as they are between two writes."""
        if self.store is not None:
            await self.store.write(lambda: shutil.copytree(self.path, image))
        here = asyncio.current_task()
        tasks = [one for one in asyncio.all_tasks() if one is not here]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.store is not None:
            await self.store.close()


class DeletedObjects(RuleBasedStateMachine):
    """``sent`` has every value that was offered to an object, by uid."""

    @initialize(stored=st.booleans())
    def begin(self, stored: bool) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        queues = self.folder / "data" / "queues"
        queues.mkdir(parents=True)
        self.path = queues if stored else None
        self.cluster, self.endpoints = Cluster(), Endpoints()
        self.sent: dict[str, set[float]] = defaultdict(set)
        self.uids = self.values = self.kills = 0
        self.begin_life()

    def begin_life(self) -> None:
        async def make() -> Life:
            life = Life(self.cluster, self.endpoints, self.path)
            await life.start()
            return life

        self.life = self.runner.run(make())

    def reload(self) -> None:
        self.runner.run(self.life.reloader.reload())

    @rule(name=NAMES, down=st.booleans())
    def put(self, name: str, down: bool) -> None:
        """Create an object, or make it anew in one step."""
        self.note_deleted(name)
        self.uids += 1
        uid = f"u{self.uids}"
        endpoint = OtlpHttp(
            f"http://{uid}.test/v1/metrics",
            compression="none",
            authentication=Authentication("bearerToken", SecretRef(f"tok-{name}")),
        )
        sink = Sink("out", ("all",), endpoint, retry=RetrySettings(backoff_s=0.005))
        self.cluster.objects[name] = Exporter(
            "", "ns", name, (), (sink,), uid=uid, control_plane="api"
        )
        self.cluster.tokens[f"tok-{name}"] = uid
        if down:
            self.endpoints.down.add(uid)
        self.reload()

    @rule(name=NAMES)
    def edit(self, name: str) -> None:
        if (one := self.cluster.objects.get(name)) is not None:
            (sink,) = one.sinks
            uid, number = one.uid, one.generation + 1
            moved = replace(sink.endpoint, url=f"http://{uid}.v{number}.test/v1/metrics")
            sinks = (replace(sink, endpoint=moved),)
            self.cluster.objects[name] = replace(one, sinks=sinks, generation=number)
            self.reload()

    @rule(name=NAMES, secret_first=st.booleans())
    def delete(self, name: str, secret_first: bool) -> None:
        if name in self.cluster.objects:
            self.cluster.tokens.pop(f"tok-{name}")
            if secret_first:
                self.reload()
            self.note_deleted(name)
            del self.cluster.objects[name]
            self.reload()

    def note_deleted(self, name: str) -> None:
        if (one := self.cluster.objects.get(name)) is not None:
            self.life.deleted_at[one.uid] = time.monotonic()

    @rule(name=NAMES, count=st.integers(1, 5))
    def offer(self, name: str, count: int) -> None:
        if (one := self.cluster.objects.get(name)) is not None:
            values = [float(self.values + number) for number in range(count)]
            self.values += count
            self.sent[one.uid].update(values)

            async def offered() -> None:
                self.life.offer(one, values)

            self.runner.run(offered())

    @rule(number=st.integers(1, 8))
    def switch(self, number: int) -> None:
        self.endpoints.down ^= {f"u{number}"}

    @rule(turns=st.sampled_from([1, 20, 100]))
    def rest(self, turns: int) -> None:
        self.runner.run(asyncio.sleep(turns / 1000))

    @rule(killed=st.booleans(), gone=st.sets(NAMES), anew=st.booleans())
    @precondition(lambda self: self.uids)
    def restart(self, killed: bool, gone: set[str], anew: bool) -> None:
        """Stop or die, delete some objects meanwhile, perhaps make them anew, and start."""
        if killed:
            self.kills += 1
            image = self.folder / str(self.kills) / "queues"
            self.runner.run(self.life.die(image))
            self.path = image if self.path else None
        else:
            self.runner.run(self.life.stop())
        for name in gone & self.cluster.objects.keys():
            one = self.cluster.objects.pop(name)
            if anew:
                self.uids += 1
                uid = f"u{self.uids}"
                self.cluster.tokens[f"tok-{name}"] = uid
                endpoint = replace(one.sinks[0].endpoint, url=f"http://{uid}.test/v1/metrics")
                sinks = (replace(one.sinks[0], endpoint=endpoint),)
                self.cluster.objects[name] = replace(one, uid=uid, sinks=sinks)
        self.begin_life()
        if self.life.store is not None:
            orphans = self.life.store.statistics().orphans
            assert orphans.waiting == 0, "what is left is of deleted objects, and dropped"
            assert orphans.orphaned == orphans.deleted

    @invariant()
    def nobody_gets_what_is_anothers(self) -> None:
        if not hasattr(self, "life"):
            return
        for uid, values in self.endpoints.taken.items():
            assert self.sent[uid].issuperset(values), f"{uid} got what is another's"
        assert self.endpoints.faults == []

    @invariant()
    def every_point_is_accounted_for(self) -> None:
        if not hasattr(self, "life"):
            return
        self.runner.run(self.check())

    async def check(self) -> None:
        for report in self.life.reconciler.reports():
            assert report.balanced, report
            assert not report.ledger.rejected
        for one in self.cluster.objects.values():
            (report,) = self.life.reconciler.reports_of(one.id).values()
            assert report.ledger.offered == self.life.offered[one.uid], "made anew it begins empty"
        removed = self.life.reconciler.removed_ledger()
        assert removed.balanced
        assert removed.dropped.keys() <= {"deleted"}
        draining = {entry.owner.uid for entry in self.life.reconciler._drains}
        for uid in draining:
            late = time.monotonic() - self.life.deleted_at[uid] - DRAIN_S
            assert late < SLACK_S, f"{uid} still drains"
        still = draining | {one.uid for one in self.cluster.objects.values()}
        ended = sum(count for uid, count in self.life.offered.items() if uid not in still)
        assert removed.offered == ended

    def teardown(self) -> None:
        if not hasattr(self, "life"):
            return
        try:
            for name in list(self.cluster.objects):
                self.delete(name, False)
            self.runner.run(self.end())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    async def end(self) -> None:
        """Wait for all drains; nothing may be left of anything."""
        await self.life.reconciler._drains.wait()
        await asyncio.sleep(0)
        await self.check()
        assert list(self.life.reconciler.entries()) == []
        assert self.life.memory.used == 0
        assert self.life.holds.total == 0
        await self.life.stop()
        if self.life.store is not None:
            assert self.life.store.used_bytes == 0
            assert self.path is not None
            assert list(self.path.iterdir()) == []


TestDeletedObjects = DeletedObjects.TestCase
TestDeletedObjects.settings = examples(20, stateful_step_count=20)
