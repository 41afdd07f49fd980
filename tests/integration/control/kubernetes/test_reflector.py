"""The reflector against scripted faults: a consumer of its changes ends up with the truth."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from relay.control.kubernetes import client as client_module
from relay.control.kubernetes import objects as objects_module
from relay.control.kubernetes.cache_file import ObjectCache
from relay.control.kubernetes.client import ApiClient, ClientTimings, WatchTarget
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.object_store import ObjectStore
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.kubernetes.reflector import Reflector, ReflectorLimits
from tests.kit.kubernetes.fake_api import (
    FakeApi,
    Fault,
    cut,
    failing,
    status_document,
    streaming,
)
from tests.kit.processes import eventually
from tests.own_time import within

EXPORTERS = ApiResource("telemetry.datumapis.com", "v1alpha1", "exporters", "Exporter")
PATH = EXPORTERS.path()
QUICK = ReflectorLimits(
    grace_s=0.2, backoff_s=0.02, initial_silence_s=0.3, watch_min_s=0.01, save_s=0.05
)


def is_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true"


def is_list(request: web.Request) -> bool:
    return not is_watch(request)


def is_resumed(request: web.Request) -> bool:
    return is_watch(request) and "resourceVersion" in request.query


class Consumer:
    """Knows the objects by the changes that it was given, and nothing else."""

    def __init__(self, reflector: Reflector) -> None:
        self.reflector = reflector
        self.objects: dict[str, ApiObject] = {}
        self.slices: list[int] = []

    async def consume(self) -> None:
        async for changes in self.reflector.changes():
            self.slices.append(len(changes))
            for change in changes:
                if change.before is not None:
                    assert self.objects.pop(change.before.name).uid == change.before.uid
                if change.after is not None:
                    assert change.after.name not in self.objects
                    self.objects[change.after.name] = change.after

    def specs(self) -> dict[str, Any]:
        return {name: one.document().get("spec") for name, one in self.objects.items()}


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as api:
        yield api


@asynccontextmanager
async def following(
    api: FakeApi,
    limits: ReflectorLimits = QUICK,
    *,
    answer_s: float = 2,
    page_bytes_max: int = 1 << 20,
    **options: Any,
) -> AsyncIterator[Consumer]:
    timings = ClientTimings(answer_s=answer_s, watch_s=(5, 5), watch_grace_s=1)
    async with ApiClient(
        ClusterAccess(api.url), timings=timings, page_bytes_max=page_bytes_max, rng=Random(1)
    ) as client:
        reflector = Reflector(
            client, WatchTarget(EXPORTERS), limits=limits, rng=Random(1), **options
        )
        consumer = Consumer(reflector)
        tasks = [
            asyncio.ensure_future(reflector.run()),
            asyncio.ensure_future(consumer.consume()),
        ]
        try:
            yield consumer
        finally:
            for task in tasks:
                task.cancel()
            for found in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(found, asyncio.CancelledError):
                    assert isinstance(found, BaseException)
                    raise found
            assert client.slots.in_use == 0


def truth(api: FakeApi) -> dict[str, Any]:
    return {name: one["spec"] for (_, name), one in api.kind(PATH).objects.items()}


async def agrees(consumer: Consumer, api: FakeApi) -> None:
    await eventually(
        "the consumer knows the truth", lambda: consumer.specs() == truth(api), timeout_s=5
    )


def fill(api: FakeApi, count: int) -> None:
    for number in range(count):
        api.put(PATH, api.new(f"e{number}", number=number))


async def change_everything(api: FakeApi) -> None:
    """A change of each kind, another object of an old name among them."""
    api.put(PATH, api.new("new", number=-1))
    document = api.kind(PATH).objects["default", "e0"]
    api.put(PATH, {**document, "spec": {"number": 100}})
    api.delete(PATH, "e1")
    api.delete(PATH, "e2")
    api.put(PATH, api.new("e2", number=2))


Script = Callable[[FakeApi], None]


def no_fault(api: FakeApi) -> None:
    del api


def no_streaming(api: FakeApi) -> None:
    api.streaming_lists = False


def ignoring(api: FakeApi) -> None:
    api.ignores_initial_events = True


def small_pages(api: FakeApi) -> None:
    api.streaming_lists = False
    api.page_max = 2


def lists_expire(api: FakeApi) -> None:
    small_pages(api)
    api.faults.append(
        Fault(failing(410, "Expired"), 2, lambda request: "continue" in request.query)
    )


def throttled(api: FakeApi) -> None:
    api.faults.append(Fault(failing(429, "TooManyRequests", retry_after="0"), times=3))


def broken(api: FakeApi) -> None:
    api.faults += [Fault(cut, times=4), Fault(failing(500, "InternalError"), times=4)]


def streaming_fails_forever(api: FakeApi) -> None:
    api.faults.append(
        Fault(failing(500), 10**6, lambda request: "sendInitialEvents" in request.query)
    )


def half_a_list(api: FakeApi) -> None:
    line = json.dumps({"type": "ADDED", "object": api.new("ghost")}).encode()
    api.faults += [Fault(streaming(line + b"\n"), 1, is_watch), Fault(streaming(line), 1, is_watch)]


def watches_expire(api: FakeApi) -> None:
    api.faults.append(Fault(failing(410, "Expired"), 2, is_resumed))


def expires_in_the_stream(api: FakeApi) -> None:
    error = {"type": "ERROR", "object": status_document(410, "Expired")}
    api.faults.append(Fault(streaming(json.dumps(error).encode() + b"\n"), 2, is_resumed))


def short_watches(api: FakeApi) -> None:
    api.watch_s_max = 0.05


@pytest.mark.parametrize(
    "script",
    [
        no_fault,
        no_streaming,
        ignoring,
        small_pages,
        lists_expire,
        throttled,
        pytest.param(broken, marks=pytest.mark.slow),
        streaming_fails_forever,
        half_a_list,
        watches_expire,
        expires_in_the_stream,
        short_watches,
    ],
)
async def test_the_truth_arrives_in_spite_of(api: FakeApi, script: Script) -> None:
    fill(api, 5)
    script(api)
    async with following(api) as consumer:
        await agrees(consumer, api)
        await change_everything(api)
        await agrees(consumer, api)
        assert consumer.reflector.freshness == "synced"
        assert (
            consumer.objects["e2"].uid == api.kind(PATH).objects["default", "e2"]["metadata"]["uid"]
        )


async def test_nothing_is_lost_while_the_api_is_away(api: FakeApi) -> None:
    fill(api, 5)
    async with following(api) as consumer:
        await agrees(consumer, api)
        await api.close()
        await eventually(
            "it is stale", lambda: consumer.reflector.freshness == "stale", timeout_s=5
        )
        assert len(consumer.objects) == 5
        await change_everything(api)
        api.compact()
        await api.open()
        await agrees(consumer, api)
        statistics = consumer.reflector.statistics()
        assert statistics.lists == 2
        assert statistics.last_error == ""
        assert statistics.stale_since is None


async def test_a_short_absence_costs_no_list(api: FakeApi) -> None:
    fill(api, 5)
    async with following(api) as consumer:
        await agrees(consumer, api)
        await api.close()
        await change_everything(api)
        await api.open()
        await agrees(consumer, api)
        assert consumer.reflector.statistics().lists == 1


async def test_one_object_of_the_wrong_shape_costs_no_other(api: FakeApi) -> None:
    fill(api, 3)
    async with following(api) as consumer:
        await agrees(consumer, api)
        good = api.kind(PATH).objects["default", "e1"]
        bad = json.loads(json.dumps(good))
        bad["metadata"]["uid"] = 7
        api.put(PATH, bad)
        await eventually(
            "it is named", lambda: ("default", "e1") in consumer.reflector.trouble, timeout_s=5
        )
        api.put(PATH, api.new("other", number=9))
        await eventually("others go on", lambda: "other" in consumer.objects, timeout_s=5)
        assert consumer.specs()["e1"] == {"number": 1}  # its last good version
        api.put(PATH, {**good, "spec": {"number": 5}})
        await agrees(consumer, api)
        assert consumer.reflector.trouble == {}


@pytest.mark.parametrize("streams", [True, False])
async def test_a_wrong_shape_in_a_list_is_no_deletion(api: FakeApi, *, streams: bool) -> None:
    api.streaming_lists = streams
    fill(api, 3)
    async with following(api) as consumer:
        await agrees(consumer, api)
        await api.close()
        api.kind(PATH).objects["default", "e1"]["metadata"]["uid"] = 7
        api.delete(PATH, "e2")
        api.compact()
        await api.open()
        await eventually("a list", lambda: set(consumer.objects) == {"e0", "e1"}, timeout_s=5)
        assert ("default", "e1") in consumer.reflector.trouble


@pytest.mark.parametrize("streams", [True, False])
async def test_a_huge_object_costs_no_other(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, *, streams: bool
) -> None:
    api.streaming_lists = streams
    fill(api, 20)
    monkeypatch.setattr(client_module, "WatchDecoder", small_decoder)
    async with following(api, page_bytes_max=10_000) as consumer:
        await agrees(consumer, api)
        reflector = consumer.reflector
        good = api.kind(PATH).objects["default", "e5"]
        api.put(PATH, {**good, "spec": {"text": "x" * 50_000}})
        await eventually("it is counted", lambda: None in reflector.trouble, timeout_s=5)
        api.delete(PATH, "e1")
        await eventually("others go on", lambda: "e1" not in consumer.objects, timeout_s=5)
        await api.close()
        api.delete(PATH, "e2")  # is not lost, even over a list with a huge object
        api.compact()
        await api.open()
        await eventually("a list", lambda: "e2" not in consumer.objects, timeout_s=5)
        assert reflector.trouble == {("default", "e5"): "is too long to be read"}
        assert len(consumer.objects) == 18
        assert consumer.specs()["e5"] == {"number": 5}  # its last good version
        api.put(PATH, {**good, "spec": {"number": 50}})
        await agrees(consumer, api)
        assert reflector.trouble == {}


async def test_a_list_with_an_object_without_a_name(api: FakeApi) -> None:
    fill(api, 5)
    async with following(api) as consumer:
        await agrees(consumer, api)
        await api.close()
        nameless = api.kind(PATH).objects["default", "e1"]
        nameless["metadata"]["name"] = 7
        nameless["metadata"]["namespace"] = "default"
        api.delete(PATH, "e2")
        api.compact()
        await api.open()
        await eventually("a list", lambda: "e2" not in consumer.objects, timeout_s=5)
        assert set(consumer.objects) == {"e0", "e3", "e4"}
        assert None in consumer.reflector.trouble


def small_decoder(resource: ApiResource) -> objects_module.WatchDecoder:
    return objects_module.WatchDecoder(resource, line_bytes_max=10_000)


@pytest.mark.slow
async def test_garbage_forever_is_no_storm(api: FakeApi) -> None:
    fill(api, 1)
    api.faults.append(Fault(streaming(b"garbage\n", hang=True), 10**6, is_resumed))
    api.faults.append(Fault(streaming(b"garbage\n", hang=True), 10**6, is_watch))
    async with following(api, ReflectorLimits(backoff_s=0.1)):
        await asyncio.sleep(1)
        assert len(api.requests) < 15


@pytest.mark.slow
async def test_retry_after_is_honoured(api: FakeApi) -> None:
    api.faults.append(Fault(failing(429, "TooManyRequests", retry_after="1")))
    began = time.monotonic()
    async with following(api) as consumer:
        await within(5, consumer.reflector.ready())
        assert time.monotonic() - began >= 1


async def test_a_silent_api_is_left_again(api: FakeApi) -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    fill(api, 2)
    api.faults.append(Fault(silent, times=2))
    async with following(api, answer_s=0.1) as consumer:
        await agrees(consumer, api)
        assert consumer.reflector.statistics().failures == 2


async def test_slices_are_bounded(api: FakeApi) -> None:
    fill(api, 1000)
    async with following(api) as consumer:
        await agrees(consumer, api)
        assert max(consumer.slices) <= 200


async def test_too_many_objects_are_refused_and_come_when_there_is_room(api: FakeApi) -> None:
    api.watch_s_max = 0.1
    fill(api, 5)
    async with following(api, store=ObjectStore(objects_max=4)) as consumer:
        await eventually("four", lambda: len(consumer.objects) == 4, timeout_s=5)
        assert consumer.reflector.statistics().store.refused == 1
        api.delete(PATH, "e0")
        await agrees(consumer, api)


# The cache


def cache_of(api: FakeApi, path: Path) -> ObjectCache:
    return ObjectCache(path / "exporters", EXPORTERS, server=api.url)


async def test_the_last_known_state_over_a_restart(api: FakeApi, tmp_path: Path) -> None:
    fill(api, 5)
    async with following(api, cache=cache_of(api, tmp_path)) as consumer:
        await agrees(consumer, api)
    known = truth(api)
    await api.close()
    async with following(api, cache=cache_of(api, tmp_path)) as consumer:
        await asyncio.sleep(0.05)
        assert consumer.objects == {}  # the API may still come
        await eventually("the cache", lambda: consumer.specs() == known, timeout_s=5)
        assert consumer.reflector.freshness == "cached"
        await change_everything(api)
        await api.open()
        await agrees(consumer, api)
        assert consumer.reflector.freshness == "synced"


async def test_with_the_api_there_the_cache_is_not_given(api: FakeApi, tmp_path: Path) -> None:
    fill(api, 3)
    async with following(api, cache=cache_of(api, tmp_path)) as consumer:
        await agrees(consumer, api)
    api.delete(PATH, "e1")
    async with following(api, cache=cache_of(api, tmp_path)) as consumer:
        await agrees(consumer, api)
        assert sum(consumer.slices) == 2


async def test_the_cache_is_written_while_it_runs(api: FakeApi, tmp_path: Path) -> None:
    fill(api, 3)
    cache = cache_of(api, tmp_path)
    async with following(api, cache=cache) as consumer:
        await agrees(consumer, api)
        await eventually("written", lambda: len(cache.load().objects) == 3, timeout_s=5)
        api.delete(PATH, "e1")
        await eventually("written again", lambda: len(cache.load().objects) == 2, timeout_s=5)


async def test_a_change_is_in_the_cache_at_once_and_a_status_is_not(
    api: FakeApi, tmp_path: Path
) -> None:
    """A crash soon after a change must not lose it; statuses are written all the time."""
    fill(api, 3)
    cache = cache_of(api, tmp_path)
    limits = replace(QUICK, save_s=60.0, save_soon_s=0.1)
    async with following(api, limits, cache=cache) as consumer:
        await eventually("written", lambda: len(cache.load().objects) == 3, timeout_s=5)
        api.put(PATH, api.new("late", text="x"))
        await agrees(consumer, api)
        await eventually("written again", lambda: len(cache.load().objects) == 4, timeout_s=5)
        written = cache.path.stat().st_mtime_ns
        late = api.kind(PATH).objects["default", "late"]
        stored = api.put(PATH, {**late, "status": {"conditions": []}})
        await eventually(
            "it is seen",
            lambda: (
                consumer.reflector.store.objects["default", "late"].resource_version
                == stored["metadata"]["resourceVersion"]
            ),
            timeout_s=5,
        )
        await asyncio.sleep(0.5)
        assert cache.path.stat().st_mtime_ns == written


async def test_a_damaged_cache_is_reported_and_replaced(api: FakeApi, tmp_path: Path) -> None:
    fill(api, 3)
    cache = cache_of(api, tmp_path)
    cache.path.write_bytes(b"damaged")
    await api.close()
    async with following(api, cache=cache) as consumer:
        await asyncio.sleep(0)
        await eventually(
            "a failure", lambda: consumer.reflector.statistics().failures > 1, timeout_s=5
        )
        assert consumer.reflector.freshness == "starting"
        assert consumer.reflector.cache_problem.endswith("exporters: is damaged")
        await api.open()
        await agrees(consumer, api)
        await eventually("written", lambda: len(cache.load().objects) == 3, timeout_s=5)
        assert consumer.reflector.cache_problem == ""
