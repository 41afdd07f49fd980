"""Requests that are admitted at once: as others, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from relay.codec.otlp.batch import OpenBatch
from relay.control.durability.admission import DECLINED_MAX, Admission
from relay.control.time_slicing import DirectPace, Turns
from relay.pipeline.contract import IngestRequest, IngestResult
from relay.pipeline.pacing import Pace
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.runtime.errors import DecodeError, OverloadedError
from relay.sink.queue.fair_share import BufferedBytes
from tests.kit.engine_rig import EVERYTHING, ReplaceablePipeline
from tests.kit.remote_write.sample_writes import write


class Sinks:
    """No sink is full; open batches are measured by the test."""

    blocking = ()

    def open_bytes(self) -> int:
        return 0

    def relieve_memory(self) -> None:
        return None


class Rig:
    """An admission over a pipeline with one batch."""

    def __init__(self, *, memory_bytes_max: int = 1 << 20, **options: Any) -> None:
        self.pipeline = ReplaceablePipeline()
        self.batch = OpenBatch(None, limit=100)
        targets = [SinkOutputSpec(SinkCounter("x", "sink"), [self.batch])]
        self.pipeline.add_exporter("x", "", [("all", EVERYTHING, targets)])
        self.turns = Turns()
        self.accepted: list[int] = []
        self.admission = Admission(
            self.pipeline,
            Sinks(),  # type: ignore[arg-type]
            **{"journal": None, "replay": None, **options},
            memory_bytes_max=memory_bytes_max,
            queued=BufferedBytes(),
            on_accepted=lambda accepted: self.accepted.append(accepted.request),
            tick=lambda: 0.0,
            turns=self.turns,
        )

    def at_once(self, body: bytes) -> IngestResult | None:
        return self.admission.accept_at_once(request_of(body))


def request_of(body: bytes) -> IngestRequest:
    return IngestRequest(None, 1.0, body, body, "snappy", "remote_write_v1")


async def test_a_request_at_once_is_admitted_as_one_that_waits() -> None:
    one, other = Rig(), Rig()
    bodies = [write("up 1"), write("up 2")]
    at_once = [one.at_once(body) for body in bodies]
    waited = [await other.admission.accept(request_of(body)) for body in bodies]
    assert at_once == waited == [IngestResult(1), IngestResult(1)]
    assert one.accepted == other.accepted == [0, 1]
    assert one.batch.count == other.batch.count == 2


def test_nothing_is_admitted_that_would_be_refused() -> None:
    rig = Rig()
    with pytest.raises(DecodeError):
        rig.at_once(b"\xff")
    rig.admission.stopping = True
    with pytest.raises(OverloadedError):
        rig.at_once(write("up 1"))
    full = Rig(memory_bytes_max=4)
    with pytest.raises(OverloadedError):
        full.at_once(write("up 1"))
    assert rig.accepted == full.accepted == []
    assert rig.batch.count == full.batch.count == 0


def test_a_request_that_takes_long_is_left_to_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()

    def ingest(*_: object, pace: Any, **__: object) -> None:
        while True:
            pace.pause()

    with monkeypatch.context() as patched:
        patched.setattr(rig.pipeline, "ingest", ingest)
        assert rig.at_once(write("up 1")) is None
    assert rig.accepted == []
    assert rig.at_once(write("up 1")) == IngestResult(1)


async def test_a_request_that_was_left_to_slices_begins_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, paces = Rig(), list[type[Pace]]()
    take = rig.pipeline.ingest

    def ingest(*arguments: Any, pace: Pace, **options: Any) -> Any:
        paces.append(type(pace))
        while len(paces) == 1:
            pace.pause()
        return take(*arguments, pace=pace, **options)

    monkeypatch.setattr(rig.pipeline, "ingest", ingest)
    request = request_of(write("up 1"))
    assert rig.admission.accept_at_once(request) is None
    assert await rig.admission.accept(request) == IngestResult(1)
    assert paces[0] is DirectPace
    assert paces[1] is not DirectPace
    await rig.admission.accept(request)
    assert paces[2:] == [DirectPace]


async def test_several_that_were_left_to_slices_in_one_turn_all_begin_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, paces, count = Rig(), list[type[Pace]](), DECLINED_MAX
    take = rig.pipeline.ingest

    def ingest(*arguments: Any, pace: Pace, **options: Any) -> Any:
        paces.append(type(pace))
        while len(paces) <= count:
            pace.pause()
        return take(*arguments, pace=pace, **options)

    monkeypatch.setattr(rig.pipeline, "ingest", ingest)
    requests = [request_of(write(f"up {n}")) for n in range(count)]
    assert [rig.admission.accept_at_once(one) for one in requests] == [None] * count
    for one in requests:
        await rig.admission.accept(one)
    assert paces[:count] == [DirectPace] * count
    assert DirectPace not in paces[count:]
    assert len(paces) == 2 * count


@pytest.mark.parametrize("options", [{"journal": object()}, {"replay": object()}])
def test_nothing_is_at_once_where_requests_may_have_to_wait(options: dict[str, Any]) -> None:
    assert Rig().admission.is_free
    assert not Rig(**options).admission.is_free


async def test_nothing_is_at_once_while_another_request_is_in_slices() -> None:
    rig, begun = Rig(), asyncio.Event()

    async def hold(until: Callable[[], Any]) -> None:
        async with rig.turns.between():
            begun.set()
            await until()

    done = asyncio.Event()
    task = asyncio.create_task(hold(done.wait))
    await begun.wait()
    assert not rig.admission.is_free
    done.set()
    await task
    assert rig.admission.is_free
