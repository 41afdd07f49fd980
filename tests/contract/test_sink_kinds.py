"""The contract of a sink kind (relay.sink.interface), over every registered kind and over one that
is registered here alone, without a change to any other module."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from relay.config.exporter.types import (
    Compression,
    OtlpHttp,
)
from relay.runtime.errors import DecodeError
from relay.sink.build import SinkDependencies, SinkEnvironment, build_worker
from relay.sink.kinds import KINDS, all_kinds, coding_number, coding_of, kind_of
from relay.sink.queue.disk_index import Entry
from relay.sink.queue.encoding import (
    SharedBodyCache,
    encode_batch,
    split_below,
    split_in_two,
)
from relay.sink.queue.payload import EncodedRequest
from relay.sink.retry.circuit_breaker import CircuitBreakers
from tests.kit.batches import raw_sealed_batch, sealed_batch
from tests.kit.holds import Holds
from tests.kit.processes import free_port
from tests.kit.sink.bench import no_secret, running, sent, serving, sink_of, stored
from tests.kit.sink.kinds import (
    CASES,
    LINES,
    OTLP,
    OWN,
    WRITE_1,
    WRITE_2,
    Case,
    LinesEndpoint,
)

every_kind = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.name)


def test_every_kind_is_here_and_serves_its_endpoints() -> None:
    assert list(all_kinds()) == [case.kind for case in CASES]
    for case in CASES:
        assert kind_of(case.endpoint("http://127.0.0.1:1/")) is case.kind


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, LinesEndpoint, (LINES,))


def requests_of(case: Case, *values: float, compression: Compression) -> list[EncodedRequest]:
    return encode_batch(
        case.batch(values, position=4, opened_at=9.0),
        case.kind.encoder,
        shard=0,
        compression=compression,
        bytes_max=1 << 20,
        bodies=SharedBodyCache(),
    )


def values_of(case: Case, request: EncodedRequest) -> list[float]:
    return case.values(case.kind.encoder.decompress(request.body, request.encoding))


@every_kind
def test_an_encoder_has_the_name_of_its_kind_and_a_content_type(case: Case) -> None:
    assert case.kind.encoder.kind == case.kind.name
    assert "/" in case.kind.encoder.content_type


@every_kind
def test_encoding_leaves_the_batch_alone(case: Case) -> None:
    batch = case.batch([1.0, 2.0, 3.0])
    first = case.kind.encoder.encode(batch)
    assert case.kind.encoder.encode(batch) == first
    assert case.values(first) == [1.0, 2.0, 3.0]


@every_kind
@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_a_split_keeps_every_point_in_order(case: Case, count: int) -> None:
    pieces = [(case.kind.encoder.encode(case.batch(map(float, range(count)))), count)]
    singles: list[float] = []
    while pieces:
        body, points = pieces.pop()
        assert len(case.values(body)) == points
        halves = case.kind.encoder.split(body)
        assert (halves is None) == (points == 1)
        if halves is None:
            singles += case.values(body)
        else:
            assert all(half[1] for half in halves)
            pieces += reversed(halves)
    assert singles == [float(value) for value in range(count)]


@every_kind
def test_every_compression_can_be_undone_and_damage_is_found(case: Case) -> None:
    encoder = case.kind.encoder
    body = encoder.encode(case.batch([1.0, 2.0]))
    for compression in case.kind.stored_codings:
        packed = encoder.compress(body, compression)
        assert encoder.decompress(packed, compression) == body
        if compression != "none":
            assert packed != body
            with pytest.raises(DecodeError):
                encoder.decompress(packed[: len(packed) // 2], compression)


def test_numbers_on_disk_are_unique_and_stay() -> None:
    numbers = [number for kind in all_kinds() for number in kind.stored_codings.values()]
    assert len(numbers) == len(set(numbers))
    assert all(0 <= number <= 255 for number in numbers)
    for kind in all_kinds():
        for compression, number in kind.stored_codings.items():
            assert coding_number(kind.name, compression) == number
            assert coding_of(number) == (kind.name, compression)
    assert coding_of(255) is None
    # What earlier revisions wrote.
    assert [coding_of(number) for number in range(5)] == [
        ("otlp", "none"),
        ("otlp", "gzip"),
        ("otlp", "zstd"),
        ("remoteWrite1", "snappy"),
        ("remoteWrite2", "snappy"),
    ]


@every_kind
async def test_a_request_comes_back_from_disk_as_it_was(case: Case, tmp_path: Path) -> None:
    async with stored(tmp_path) as store:
        for compression in case.kind.stored_codings:
            (request,) = requests_of(case, 1.0, 2.0, 3.0, compression=compression)
            (place,) = await store.save(0, [(request, 4)], shards=1)
            entry = Entry(0, place.segment, place.offset, 3, request.body_bytes, 9.0)
            again = await store.load(entry)
            assert again is not None
            assert (again.kind, again.encoding) == (case.kind.name, compression)
            assert (again.body, again.points) == (request.body, 3)
            assert again.encoded_bytes == request.encoded_bytes


@every_kind
def test_requests_are_cut_by_their_own_encoder(case: Case) -> None:
    for compression in case.kind.stored_codings:
        (request,) = requests_of(case, 1.0, 2.0, 3.0, 4.0, compression=compression)
        halves = split_in_two(request, case.kind.encoder)
        assert [values_of(case, half) for half in halves] == [[1.0, 2.0], [3.0, 4.0]]
        assert {(half.kind, half.encoding) for half in halves} == {(case.kind.name, compression)}
        singles = split_below(request, case.kind.encoder, 1)
        assert [values_of(case, single) for single in singles] == [[1.0], [2.0], [3.0], [4.0]]


def test_kinds_do_not_share_bodies() -> None:
    bodies = SharedBodyCache()
    shared = ((sealed_batch, (OTLP, OWN)), (raw_sealed_batch, (WRITE_1, WRITE_2)))
    for make, cases in shared:
        batch = make([1.0, 2.0])
        for case in cases:
            (body,) = bodies.bodies_of(batch, case.kind.encoder, "none", 1 << 20)
            assert case.values(body.data) == [1.0, 2.0]
    assert (bodies.made, bodies.shared) == (4, 0)


@every_kind
async def test_every_compression_arrives_in_order_after_a_retry(case: Case) -> None:
    for compression in case.kind.stored_codings:
        async with (
            serving(503) as endpoint,
            running(case, sink_of(case, endpoint.url, compression)) as bench,
        ):
            for value in range(6):
                bench.offer(float(value), value + 0.5)
            statistics = await bench.finished()
            expected = [value / 2 for value in range(12)]
            assert list(sent(case, endpoint, compression)) == expected
        assert statistics.ledger.delivered == 12
        assert statistics.requests == {"retry": 1, "delivered": 6}
        assert statistics.bytes_sent > sum(len(body) for _, _, body in endpoint.received)


@every_kind
async def test_a_request_that_is_too_large_is_cut(case: Case) -> None:
    compression = case.compressions[0]
    async with (
        serving(413) as endpoint,
        running(case, sink_of(case, endpoint.url, compression)) as bench,
    ):
        big = [float(value) for value in range(2000)]
        bench.offer(*big)
        statistics = await bench.finished()
        assert list(sent(case, endpoint, compression)) == big
        assert len(endpoint.received) > 1
    assert statistics.requests["split"] == 1
    assert statistics.splits >= 1


@every_kind
async def test_refused_credentials_pause_and_keep_the_data(case: Case) -> None:
    async with serving(401) as endpoint, running(case, sink_of(case, endpoint.url)) as bench:
        bench.offer(1.0)
        await bench.until(lambda one: one.state == "paused")
        bench.worker.reread_secrets()
        statistics = await bench.finished()
    assert statistics.ledger.delivered == 1
    assert statistics.requests == {"unauthorized": 1, "delivered": 1}


@every_kind
async def test_no_connection_is_a_failure_that_is_tried_again(case: Case) -> None:
    async with running(case, sink_of(case, f"http://127.0.0.1:{free_port()}/write")) as bench:
        bench.offer(1.0)
        statistics = await bench.until(lambda one: one.requests.get("retry", 0) > 1)
        assert statistics.ledger.queued == 1
        assert statistics.last_error is not None
        assert "cannot connect" in statistics.last_error.text


@every_kind
async def test_what_was_spilled_is_sent_after_a_restart(case: Case, tmp_path: Path) -> None:
    async with (
        stored(tmp_path) as store,
        running(case, sink_of(case, f"http://127.0.0.1:{free_port()}/write"), store) as bench,
    ):
        for value in range(5):
            bench.offer(float(value))
        await bench.worker.drain(0.0)
        assert not bench.holds.total
    async with (
        serving() as endpoint,
        stored(tmp_path) as store,
        running(case, sink_of(case, endpoint.url), store) as bench,
    ):
        assert bench.worker.restored_points == 5
        statistics = await bench.finished()
        assert list(sent(case, endpoint, case.compressions[-1])) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert statistics.ledger.delivered == 5


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize(
    ("before", "after"), [(OTLP, OWN), (OTLP, WRITE_1), (OTLP, WRITE_2), (WRITE_2, OTLP)], ids=repr
)
async def test_a_sink_of_another_kind_does_not_send_what_it_cannot(
    before: Case, after: Case, stores: bool, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/write"
    async with (
        serving() as endpoint,
        stored(tmp_path) as store,
        running(before, sink_of(before, nowhere), store if stores else None) as bench,
    ):
        bench.offer(1.0, 2.0)
        await bench.until(lambda one: one.state == "failing")
        if stores:
            bench.worker.save(at_once=True)
            await bench.until(lambda one: not one.queue.memory_bytes)
        bench.worker.reconfigure(sink_of(after, endpoint.url))
        bench.batch = after.batch
        bench.offer(3.0)
        statistics = await bench.finished()
        assert list(sent(after, endpoint, after.compressions[-1])) == [3.0]
    assert statistics.ledger.dropped == {"kind_changed": 2}
    assert statistics.ledger.delivered == 1
    assert not statistics.internal_errors


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize(("before", "after"), [(WRITE_1, WRITE_2), (WRITE_2, WRITE_1)], ids=repr)
async def test_a_body_is_sent_in_the_version_that_it_was_encoded_in(
    before: Case, after: Case, stores: bool, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/write"
    async with (
        serving(413) as endpoint,
        stored(tmp_path) as store,
        running(before, sink_of(before, nowhere), store if stores else None) as bench,
    ):
        bench.offer(1.0, 2.0)
        await bench.until(lambda one: one.state == "failing")
        if stores:
            bench.worker.save(at_once=True)
            await bench.until(lambda one: not one.queue.memory_bytes)
        failed = bench.worker.statistics().requests["retry"]
        bench.worker.reconfigure(sink_of(after, endpoint.url))
        bench.offer(3.0)
        statistics = await bench.finished()
        received = endpoint.received
        # The 413 was below what any endpoint refuses for its size: it was sent again as it was.
        assert [before.values(before.kind.encoder.decompress(received[0][2], "snappy"))] == [
            [1.0, 2.0]
        ]
        assert [one[0] for one in received] == [
            before.kind.encoder.content_type,
            after.kind.encoder.content_type,
        ]
        versions = ["0.1.0" if case is WRITE_1 else "2.0.0" for case in (before, after)]
        assert endpoint.versions == versions
    assert statistics.ledger.delivered == 3
    assert statistics.requests == {"retry": failed, "split": 1, "delivered": 2}


async def test_a_kind_has_its_own_words_for_partial_success_and_refusal() -> None:
    lines = OWN
    written = (200, {"X-Written": "2"})
    async with (
        serving(written, 409) as endpoint,
        running(lines, sink_of(lines, endpoint.url)) as bench,
    ):
        bench.offer(1.0, 2.0, 3.0)
        bench.offer(4.0)
        statistics = await bench.finished()
    assert statistics.ledger.rejected == {"partial_success": 1, "out_of_order": 1}
    assert statistics.ledger.delivered == 2


def test_an_endpoint_without_a_kind_is_a_bug_that_is_told() -> None:
    class Unknown(OtlpHttp):
        pass

    config = replace(
        sink_of(CASES[0], "http://127.0.0.1:1/"), endpoint=Unknown("http://127.0.0.1:1/")
    )
    rng = random.Random(3)
    environment = SinkEnvironment(None, Holds(), rng, CircuitBreakers(rng))  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="Unknown"):
        build_worker("out", "ns/name", config, SinkDependencies(environment, no_secret))
