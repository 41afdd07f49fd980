"""A reflector under any mix of faults: its consumer knows the truth once the faults are over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from relay.control.kubernetes.client import ApiClient, ClientTimings, WatchTarget
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.kubernetes.reflector import Reflector, ReflectorLimits
from relay.control.kubernetes.slots import Use
from tests.kit.examples import examples
from tests.kit.kubernetes.fake_api import (
    Answer,
    FakeApi,
    Fault,
    bookmark,
    cut,
    failing,
    status_document,
    streaming,
)
from tests.kit.processes import eventually

pytestmark = pytest.mark.slow

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
PATH = EXPORTERS.path()
LIMITS = ReflectorLimits(
    backoff_s=0.01, initial_silence_s=0.1, watch_min_s=0.001, steady_s=0.05, page_objects=3
)
TIMINGS = ClientTimings(answer_s=0.2, watch_s=(0.5, 1), watch_grace_s=0.1)


def line(verb: str, document: object) -> bytes:
    return json.dumps({"type": verb, "object": document}).encode() + b"\n"


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    """A body that breaks off."""
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b'{"metadata": ')
    return await cut(request)


ERRORS = [line("ERROR", status_document(code, "X")) for code in (410, 429, 500)]
ANSWERS: list[Answer] = [
    *(failing(code) for code in (400, 401, 403, 404, 410, 422, 429, 500, 503)),
    *(streaming(error) for error in ERRORS),
    cut,
    silent,
    half,
    streaming(),
    streaming(b"garbage\n"),
    streaming(line("BOOKMARK", bookmark(1)), ERRORS[0]),
    streaming(b'{"items": 5}'),
    streaming(b"\xff" * 5000),
]
MATCHES: list[Callable[[web.Request], bool]] = [
    lambda _: True,
    lambda request: request.query.get("watch") == "true",
    lambda request: request.query.get("watch") != "true",
    lambda request: "resourceVersion" in request.query,
    lambda request: "continue" in request.query,
]


class World:
    """An API server, the changes that are made to its objects, and one consumer."""

    def __init__(self, random: Random, api: FakeApi) -> None:
        self.random = random
        self.api = api
        self.known: dict[str, ApiObject] = {}

    async def consume(self, reflector: Reflector) -> None:
        async for changes in reflector.changes():
            for change in changes:
                if change.before is not None:
                    assert self.known.pop(change.before.name).uid == change.before.uid
                if change.after is not None:
                    assert change.after.name not in self.known
                    self.known[change.after.name] = change.after

    def change(self) -> None:
        random, objects = self.random, self.api.kind(PATH).objects
        name = f"e{random.randrange(12)}"
        present = objects.get(("default", name))
        if present is not None and random.random() < 0.5:
            self.api.delete(PATH, name)
            if random.random() < 0.3:
                self.api.put(PATH, self.api.new(name, number=random.random()))
        elif present is not None:
            self.api.put(PATH, {**present, "spec": {"number": random.random()}})
        else:
            self.api.put(PATH, self.api.new(name, number=random.random()))

    async def trouble(self) -> None:
        random, api = self.random, self.api
        for _ in range(random.randrange(4)):
            self.change()
        what = random.random()
        if what < 0.5:
            fault = Fault(random.choice(ANSWERS), random.randrange(1, 4), random.choice(MATCHES))
            api.faults.append(fault)
        elif what < 0.6:
            api.compact()
        elif what < 0.7:
            await api.close()
            for _ in range(random.randrange(4)):
                self.change()
            if random.random() < 0.5:
                api.compact()
            await api.open()
        elif what < 0.8:
            api.forget_snapshots()
        elif what < 0.9:
            api.streaming_lists = random.random() < 0.5
            api.ignores_initial_events = random.random() < 0.3
        else:
            api.watch_s_max = random.choice([0.01, 0.05, 1])
        await asyncio.sleep(random.choice([0, 0, 0.01, 0.05]))

    def agrees(self) -> bool:
        truth = {
            name: (one["metadata"]["uid"], one["spec"])
            for (_, name), one in self.api.kind(PATH).objects.items()
        }
        found = {name: (one.uid, one.document()["spec"]) for name, one in self.known.items()}
        return found == truth


async def live(seed: int, use: Use) -> None:
    random = Random(seed)
    async with FakeApi() as api:
        world = World(random, api)
        for _ in range(8):
            world.change()
        async with ApiClient(
            ClusterAccess(api.url), timings=TIMINGS, page_bytes_max=100_000, rng=random
        ) as client:
            target = WatchTarget(EXPORTERS, use=use)
            reflector = Reflector(client, target, limits=LIMITS, rng=random)
            tasks = [
                asyncio.ensure_future(reflector.run()),
                asyncio.ensure_future(world.consume(reflector)),
            ]
            for _ in range(25):
                await world.trouble()
            api.faults.clear()
            for task in tasks:
                if task.done():
                    task.result()
            await eventually("the consumer knows the truth", world.agrees, timeout_s=10)
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(ended, asyncio.CancelledError), ended
            assert client.slots.in_use == 0
            assert api.connections_max <= 3


@given(st.integers(0, 2**32), st.sampled_from([Use.MAIN_WATCH, Use.SPARE_WATCH]))
@examples(12)
def test_the_truth_arrives_after_any_trouble(seed: int, use: Use) -> None:
    asyncio.run(live(seed, use))
