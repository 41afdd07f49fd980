"""Previews of sources of logs and traces over the resources that pipelines know."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from dataclasses import replace
from functools import partial
from itertools import permutations

import pytest

from relay.codec.otlp.envelope import Envelope, scan
from relay.config.exporter.types import Exporter, OtlpHttp, RecordSource, Sink
from relay.control.preview.preview import Preview
from relay.control.preview.record_rates import (
    LOOKED_MAX,
    SCOPES_MAX,
    RecordCount,
    RecordRates,
)
from relay.control.preview.records import (
    AT_ONCE,
    SHOWN_ATTRIBUTES_MAX,
    SHOWN_CHARS_MAX,
    preview_records,
)
from relay.control.preview.result import PreviewResult
from relay.control.time_slicing import DirectPace, Turns
from relay.pipeline.pacing import ENTRIES, UNPACED, Pace
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.records.resource_table import ResourceTable
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath, Tenancy
from relay.selector.records.compile import NOTHING, Attributes, CompiledRecords, Residual
from relay.selector.records.logql import parse_selector
from relay.selector.records.selection import RecordSelection
from tests.kit.engine_rig import Rig
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import LOGS, TRACES, attribute
from tests.own_time import CountingPace


async def settled() -> None:
    await asyncio.sleep(0)


def exporter(**selectors: str) -> Exporter:
    sources = tuple(
        RecordSource(name, "logs", one, RecordSelection(parse_selector(one), severity_min=9))
        for name, one in selectors.items()
    )
    sink = Sink("s", tuple(selectors), OtlpHttp("http://h/v1/metrics"))
    return Exporter("", "d", "x", (), (sink,), sources)


class _Ending(Pace):
    """Ends a request at its pause of this number."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def pause(self) -> None:
        self.left -= 1
        if not self.left:
            raise TimeoutError


async def test_a_request_that_was_ended_and_comes_again_counts_once() -> None:
    ended = 0
    for at in range(1, 40):
        logs, pace = RecordsPipeline("logs"), _Ending(at)
        wanted = exporter(all='{} |= "x"')
        source = wanted.record_sources[0]
        logs.router.set_sources("/x", "", [(source.name, source.selection, [])])
        body = request_of(LOGS, [1.0, 2.0, 3.0])
        try:
            logs.ingest(body, now=1.0, tick=1.0, pace=pace)
        except TimeoutError:
            ended += 1
            logs.ingest(body, now=1.0, tick=1.0)
        (found,) = await preview_records(wanted, [logs], settled)
        assert found.records == 3
        logs.dry_run(body, now=1.0)
        (found,) = await preview_records(wanted, [logs], settled)
        assert found.records == 3
    assert ended > 2


async def test_resources_and_records_are_counted() -> None:
    logs, traces = RecordsPipeline("logs"), RecordsPipeline("traces")
    body = LOGS.request.FromString(request_of(LOGS, [1.0, 2.0, 3.0]))
    for record in body.resource_logs[0].scope_logs[0].log_records:
        record.severity_number = 9
    logs.ingest(body.SerializeToString(), now=1.0, tick=1.0)
    body.resource_logs[0].resource.attributes[0].CopyFrom(attribute("service.name", "web"))
    for record in body.resource_logs[0].scope_logs[0].log_records:
        record.severity_number = 0
    logs.ingest(body.SerializeToString(), now=1.0, tick=1.0)
    traces.ingest(request_of(TRACES, [1.0]), now=1.0, tick=1.0)
    wanted = exporter(web='{service_name="web"} |= "x"', all="{}", none='{service_name="z"}')
    web, everything, none = await preview_records(wanted, [logs, traces], settled)
    assert (web.of_resources, web.resources, web.records) == (2, 1, 3)
    assert web.asks == 'severity INFO or more and a line that has |= "x"'
    assert (web.sampled, web.without_severity) == (3, 3)
    assert web.first == ('{service.name="web"}',)
    assert (everything.resources, everything.records) == (2, 6)
    assert (everything.sampled, everything.without_severity) == (6, 3)
    assert (none.resources, none.records, none.first) == (0, 0, ())
    assert everything.document()["ofResources"] == 2


async def test_resources_that_read_alike_are_shown_once() -> None:
    logs = RecordsPipeline("logs")
    body = LOGS.request.FromString(request_of(LOGS, [1.0]))
    for schema in ("", "https://a", "https://b"):
        body.resource_logs[0].schema_url = schema
        logs.ingest(body.SerializeToString(), now=1.0, tick=1.0)
    for number in range(3):
        body.resource_logs[0].resource.dropped_attributes_count = number
        logs.ingest(body.SerializeToString(), now=1.0, tick=1.0)
    (found,) = await preview_records(exporter(all="{}"), [logs], settled)
    assert found.resources > 1
    assert len(found.first) == 1


async def test_what_is_asked_is_told_for_all_resources_in_any_order() -> None:
    named = {"service.name": "api"}, {"tier": "x"}, {"service.name": "api", "tier": "x"}
    wanted = exporter(both='{service_name="api", tier="x"} |= "x"')
    for resources in permutations(named):
        logs = RecordsPipeline("logs")
        for attributes in resources:
            body = LOGS.request.FromString(request_of(LOGS, [1.0]))
            resource = body.resource_logs[0].resource
            del resource.attributes[:]
            resource.attributes.extend(attribute(*one) for one in attributes.items())
            logs.ingest(body.SerializeToString(), now=1.0, tick=1.0)
        (both,) = await preview_records(wanted, [logs], settled)
        assert both.resources == len(named)
        assert both.asks == (
            'attributes service_name="api", tier="x" and severity INFO or more '
            'and a line that has |= "x"'
        )


def severities(*numbers: int) -> bytes:
    """Return a request of log records with these severity numbers."""
    body = LOGS.request.FromString(request_of(LOGS, [1.0] * len(numbers)))
    for number, record in zip(
        numbers, body.resource_logs[0].scope_logs[0].log_records, strict=True
    ):
        record.severity_number = number
    return bytes(body.SerializeToString())


@pytest.mark.parametrize("place", range(7))
async def test_no_record_without_severity_hides_behind_others(place: int) -> None:
    logs = RecordsPipeline("logs")
    body = severities(*(0 if number == place else 9 for number in range(7)))
    for _ in range(33):
        logs.ingest(body, now=1.0, tick=1.0)
    (found,) = await preview_records(exporter(all="{}"), [logs], settled)
    assert (found.records, found.sampled, found.without_severity) == (231, 231, 33)


@pytest.mark.parametrize("size", [7, 8, 100])
@pytest.mark.parametrize("place", [0, 6, -1])
async def test_the_share_stays_right_with_many_records(size: int, place: int) -> None:
    logs = RecordsPipeline("logs")
    body = severities(*(0 if number == place % size else 9 for number in range(size)))
    for _ in range(6_000):
        logs.ingest(body, now=1.0, tick=1.0)
    (found,) = await preview_records(exporter(all="{}"), [logs], settled)
    assert 12_000 < found.sampled < 14_000
    assert found.without_severity / found.sampled == pytest.approx(1 / size, rel=0.1)


async def test_of_a_large_request_records_of_every_part_are_looked_at() -> None:
    logs = RecordsPipeline("logs")
    logs.ingest(severities(*[9] * 1_500, *[0] * 500), now=1.0, tick=1.0)
    (found,) = await preview_records(exporter(all="{}"), [logs], settled)
    assert (found.sampled, found.without_severity) == (1_000, 250)


async def test_a_resource_of_several_paths_is_one() -> None:
    tenants = ResourceTenants(Tenancy("tenant", {(1, 0): "acme"}))
    logs = RecordsPipeline("logs", tenants=tenants)
    body = LOGS.request.FromString(request_of(LOGS, [1.0, 2.0]))
    body.resource_logs[0].resource.attributes.append(attribute("milo.project.id", "acme"))
    for origin in (ANYWHERE, IngestPath("acme")):
        logs.ingest(body.SerializeToString(), now=1.0, tick=1.0, origin=origin)
    wanted = replace(exporter(all="{}"), project="acme")
    (found,) = await preview_records(wanted, [logs], settled)
    assert (found.of_resources, found.resources, len(found.first)) == (1, 1, 1)
    assert (found.records, found.sampled) == (4, 4)


async def test_a_large_resource_is_matched_beside_the_loop_and_shown_in_short() -> None:
    logs = RecordsPipeline("logs")
    body = LOGS.request.FromString(request_of(LOGS, [1.0]))
    long = [attribute(f"n{number}", "ab" * 5_000) for number in range(SHOWN_ATTRIBUTES_MAX)]
    body.resource_logs[0].resource.attributes.extend(long)
    logs.ingest(body.SerializeToString(), now=1.0, tick=1.0)
    threads = set()

    def names_thread(self: CompiledRecords, *of: Attributes) -> Residual:
        threads.add(threading.current_thread())
        return NOTHING

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledRecords, "decide", names_thread)
        (found,) = await preview_records(exporter(all="{}"), [logs], settled)
    assert threads.isdisjoint({threading.current_thread()})
    assert found.resources == len(threads) == 1
    (shown,) = found.first
    assert len(shown) < (SHOWN_CHARS_MAX + 20) * SHOWN_ATTRIBUTES_MAX
    assert f'"{("ab" * SHOWN_CHARS_MAX)[: SHOWN_CHARS_MAX - 1]}…"' in shown


async def test_a_request_is_sliced_while_its_records_are_measured() -> None:
    """A watch looks at a request that is final, so a pace that cannot pause then will not do."""
    logs, turns = RecordsPipeline("logs"), Turns()
    paces = []
    rates = RecordRates(exporter(all='{} |= "x"'), [logs])
    rates.begin()
    note = rates._watches[0].note

    def noted(envelope: Envelope, origin: IngestPath, table: ResourceTable, pace: Pace) -> None:
        paces.append(pace)
        note(envelope, origin, table, pace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates._watches[0], "note", noted)
        body = request_of(LOGS, [1.0])
        work = partial(logs.ingest, body, now=1.0, tick=1.0)
        taken = await turns.run(work, lambda _: None)
    (pace,) = paces
    assert not isinstance(pace, DirectPace)
    assert taken.request == 0, "nothing of the request was done before"
    rates.close()
    assert (await turns.run(work, lambda _: None)).request == 1
    assert len(paces) == 1


async def test_many_resources_let_others_have_their_turn() -> None:
    logs = RecordsPipeline("logs")
    for number in range(AT_ONCE * 3):
        body = LOGS.request.FromString(request_of(LOGS, [1.0]))
        body.resource_logs[0].resource.attributes.append(attribute("n", number))
        logs.ingest(body.SerializeToString(), now=1.0, tick=1.0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        turns += 1

    (found,) = await preview_records(exporter(all=""), [logs], count)
    assert found.resources == AT_ONCE * 3
    assert turns == 4


def records_of(body: bytes, number: int) -> bytes:
    """Return one record of a request of one scope, with its tag and length (below 128)."""
    scope = LOGS.request.FromString(body).resource_logs[0].scope_logs[0]
    return b"??" + bytes(scope.log_records[number].SerializeToString())


def test_records_that_pass_are_counted_while_they_are_watched() -> None:
    logs, traces = RecordsPipeline("logs"), RecordsPipeline("traces")
    body = LOGS.request.FromString(request_of(LOGS, [1.0] * 4))
    for number, record in enumerate(body.resource_logs[0].scope_logs[0].log_records):
        record.severity_number = 4 * number
    sent = body.SerializeToString()
    rates = RecordRates(exporter(all="{}", none='{service_name="z"}'), [logs, traces])
    assert rates.measures
    assert not RecordRates(exporter(), [logs, traces]).measures
    logs.ingest(sent, now=1.0, tick=1.0)
    rates.begin()
    for _ in range(3):
        logs.ingest(sent, now=1.0, tick=1.0)
    rates.close()
    logs.ingest(sent, now=1.0, tick=1.0)
    size = len(records_of(sent, 3))
    assert rates.per_minute(30.0) == {
        ("logs", "all"): RecordCount(6.0, 6.0 * size),
        ("logs", "none"): RecordCount(0.0, 0.0),
    }
    assert rates.per_minute(0.0) == {}
    assert logs.watches == traces.watches == []


def test_a_part_of_a_large_scope_stands_for_it() -> None:
    logs = RecordsPipeline("logs")
    body = LOGS.request.FromString(request_of(LOGS, [1.0] * LOOKED_MAX * 3))
    records = body.resource_logs[0].scope_logs[0].log_records
    for record in records[: LOOKED_MAX // 2]:
        record.severity_number = 9
    rates = RecordRates(exporter(all="{}"), [logs])
    rates.begin()
    logs.ingest(body.SerializeToString(), now=1.0, tick=1.0)
    assert rates.per_minute(60.0)["logs", "all"].records == LOOKED_MAX * 1.5


def many_resources(count: int) -> tuple[RecordsPipeline, Envelope]:
    """Return a pipeline that knows a resource, and a request that repeats it."""
    logs = RecordsPipeline("logs")
    body = request_of(LOGS, [1.0])
    logs.ingest(body, now=1.0, tick=1.0)
    return logs, scan(body * count)


def test_a_request_of_many_resources_is_looked_at_as_far_as_it_counts() -> None:
    logs, envelope = many_resources(20_000)
    rates = RecordRates(exporter(all="{}"), [logs])
    (watch,) = rates._watches
    tracemalloc.start()
    watch.note(envelope, ANYWHERE, logs.table, UNPACED)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100_000
    looked = CountingPace()
    watch.note(envelope, ANYWHERE, logs.table, looked)
    assert looked.pauses < 3 * SCOPES_MAX, "nothing behind the last scope that counts"


def test_resources_of_others_let_others_have_their_turn() -> None:
    logs, envelope = many_resources(20_000)
    of_others = replace(exporter(all="{}"), project="other")
    rates, pace = RecordRates(of_others, [logs]), CountingPace()
    (watch,) = rates._watches
    watch.note(envelope, ANYWHERE, logs.table, pace)
    assert pace.pauses >= 20_000 // ENTRIES


async def test_a_preview_tells_records_a_minute() -> None:
    rig, logs, now = Rig(), RecordsPipeline("logs"), 0.0

    def tick() -> float:
        nonlocal now
        now += 5.0
        logs.ingest(request_of(LOGS, [1.0]), now=1.0, tick=1.0)
        return now

    wanted = Exporter("", "d", "x", (), (), (RecordSource("a", "logs", "", RecordSelection()),))
    preview = Preview(rig.engine, Turns(), wanted, tick=tick)
    preview.records = await preview_records(wanted, [logs], settled)
    preview.record_rates = RecordRates(wanted, [logs])
    async for _ in preview.count():
        pass
    events = [event async for event in preview.measure(100.0, look_s=0)]
    result = events[-1]
    assert isinstance(result, PreviewResult)
    assert result.measured_s == 20.0
    shown = result.document()["records"][0]
    assert shown["recordsPerMinute"] == 12.0
    assert shown["bytesPerMinute"] == 12 * len(records_of(request_of(LOGS, [1.0]), 0))
