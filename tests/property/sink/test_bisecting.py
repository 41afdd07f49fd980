"""Whichever points an endpoint refuses: those are rejected, the others arrive once and in order."""

from __future__ import annotations

import cramjam
from hypothesis import given
from hypothesis import strategies as st

from relay.config.exporter.types import PrometheusRemoteWrite, RemoteWriteVersion, Sink
from relay.sink.http.response import HttpResponse
from relay.sink.kinds import encoders_for
from relay.sink.queue.encoding import SharedBodyCache, encode_batch
from relay.sink.queue.payload import EncodedRequest
from relay.sink.queue.piece_search import ROUNDS_MAX
from relay.sink.remote_write.classify import Sent, classify
from relay.sink.reporting.health import LogLine
from relay.sink.retry.bisection import REQUESTS_MAX, STREAK_MAX
from relay.sink.steps import Now, Send, Sleep
from tests.kit.batches import RAW_BATCHES, START_MS
from tests.kit.holds import Holds
from tests.kit.http.remote_write_server import Labels, Point, Storage, points_of, points_of_v2
from tests.kit.sink.delivery import delivery_of

Sample = tuple[str, int, float]
"""Label ``n``, time in ms, value."""

VERSIONS: tuple[RemoteWriteVersion, ...] = ("1.0", "2.0")


class Rollback:
    """A sink, and an endpoint that stores a request whole or not at all."""

    def __init__(self, version: RemoteWriteVersion, bad: set[int]) -> None:
        endpoint = PrometheusRemoteWrite("http://127.0.0.1:1/", version=version)
        self.sink = Sink("s", ("all",), endpoint)
        self.holds = Holds()
        self.notes: list[LogLine] = []
        self.bad = bad
        self.storage = Storage(self._refuses)
        self.requests = 0
        self.now = Now(1000.0, 50.0)
        self.delivery = delivery_of(self.sink, self.holds, self.notes)

    def _refuses(self, _labels: Labels, _time_ms: int, value: float) -> str:
        return "out of order sample" if value in self.bad else ""

    def offer(self, samples: list[Sample]) -> None:
        self.holds.hold(1)
        sealed = RAW_BATCHES.of(samples, position=1, opened_at=self.now.wall)
        self.delivery.ledger.offer(sealed.count)
        requests = encode_batch(
            sealed,
            self.delivery.encoder,
            shard=0,
            compression="snappy",
            bytes_max=1 << 26,
            bodies=SharedBodyCache(),
        )
        self.delivery.enqueue(requests, self.now)

    def deliver(self) -> None:
        """Send until nothing is left."""
        while not self.delivery.queue.empty:
            step = self.delivery.next_step(0, self.now)
            if not isinstance(step, Send):
                assert step == Sleep(0.0), "what is known to be refused is not sent"
                continue
            self.requests += 1
            answer = self._answer(step.request)
            sent = Sent(
                "remote_write_v1" if step.request.kind == "remoteWrite1" else "remote_write_v2",
                step.request.points,
            )
            self.delivery.on_response(step.request, classify(sent, answer, 0.0), self.now)

    def _answer(self, request: EncodedRequest) -> HttpResponse:
        body = bytes(cramjam.snappy.decompress_raw(request.body))
        read = points_of if request.kind == "remoteWrite1" else points_of_v2
        points = tuple(read(body))
        assert len(points) == request.points
        _, fault = self.storage.write(points, rolls_back=True)
        if fault:
            return HttpResponse(400, {}, fault.encode())
        count = str(len(points))
        return HttpResponse(204, {"x-prometheus-remote-write-samples-written": count}, b"")


LAST_REFUSED_MAX = 7 * ROUNDS_MAX * 11
"""Of at most 7 pieces that are left once the budget is spent, each in rounds of at most 400 points:
requests to find the last refused point."""


@st.composite
def batches(draw: st.DrawFn, *, points_max: int) -> list[Sample]:
    """Samples of some series, in order of time; every value is there once."""
    count = draw(st.integers(1, points_max))
    series = draw(st.integers(1, 7))
    width = draw(st.integers(1, 60))
    names = [draw(st.integers(0, series - 1)) for _ in range(min(count, 40))]
    return [
        (f"{names[at % len(names)]:0{width}d}", START_MS + at, float(at)) for at in range(count)
    ]


@given(
    samples=batches(points_max=100),
    version=st.sampled_from(VERSIONS),
    data=st.data(),
)
def test_a_few_bad_points_are_all_that_is_lost(
    samples: list[Sample], version: RemoteWriteVersion, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, len(samples) - 1), max_size=3))
    sink = Rollback(version, bad)
    sink.offer(samples)
    sink.deliver()
    for name in {n for n, _, _ in samples}:
        labels = (("__name__", "temperature"), ("n", name))
        good = [(t, v) for n, t, v in samples if n == name and v not in bad]
        assert sink.storage.series.get(labels, []) == good
    ledger = sink.delivery.ledger.statistics()
    assert ledger.delivered == len(samples) - len(bad)
    assert ledger.rejected == ({"out_of_order": len(bad)} if bad else {})
    assert sink.requests <= 1 + REQUESTS_MAX
    assert not sink.holds.total
    assert sink.delivery.health.losing == bool(bad)


@given(
    samples=batches(points_max=400),
    version=st.sampled_from(VERSIONS),
    data=st.data(),
)
def test_many_bad_points_cost_little_more_than_the_budget(
    samples: list[Sample], version: RemoteWriteVersion, data: st.DataObject
) -> None:
    every = data.draw(st.integers(1, 20))
    bad = set(range(0, len(samples), every))
    sink = Rollback(version, bad)
    sink.offer(samples)
    sink.deliver()
    stored = [value for series in sink.storage.series.values() for _, value in series]
    assert not bad & set(map(int, stored))
    assert len(stored) == len(set(stored))
    ledger = sink.delivery.ledger.statistics()
    assert ledger.delivered == len(stored)
    assert ledger.rejected == {"out_of_order": len(samples) - len(stored)}
    assert sink.requests <= 1 + REQUESTS_MAX + LAST_REFUSED_MAX
    if not sink.delivery.bisector.unsearched:
        assert len(stored) == len(samples) - len(bad)
    assert not sink.holds.total


@given(
    series=st.integers(1, 400),
    rounds=st.integers(1, 5),
    version=st.sampled_from(VERSIONS),
    data=st.data(),
)
def test_what_is_sent_again_after_a_death_costs_nothing_that_the_endpoint_lacks(
    series: int, rounds: int, version: RemoteWriteVersion, data: st.DataObject
) -> None:
    """The endpoint has the beginning, in the order of arrival; it refuses all of that."""
    samples = [
        (f"{n:03d}", START_MS + 1000 * at, float(at * series + n))
        for at in range(rounds)
        for n in range(series)
    ]
    had = data.draw(st.integers(0, len(samples)))
    resting = data.draw(st.booleans())
    sink = Rollback(version, set())
    for n, time_ms, value in samples[:had]:
        point = Point((("__name__", "temperature"), ("n", n)), time_ms, value)
        sink.storage.write((point,), rolls_back=True)
    if resting:
        for _ in range(STREAK_MAX):
            sink.delivery.bisector.search(None, 2, sink.now.monotonic)
    sink.offer(samples)
    sink.deliver()
    for n in {n for n, _, _ in samples}:
        labels = (("__name__", "temperature"), ("n", n))
        assert sink.storage.series[labels] == [(t, v) for name, t, v in samples if name == n]
    ledger = sink.delivery.ledger.statistics()
    assert ledger.delivered + sum(ledger.rejected.values()) == len(samples)
    assert not sink.holds.total
    assert sink.requests <= 1 + REQUESTS_MAX + 11 * (rounds + 1) * 12


@given(samples=batches(points_max=60), version=st.sampled_from(VERSIONS), most=st.integers(1, 5))
def test_rounds_have_each_series_once(
    samples: list[Sample], version: RemoteWriteVersion, most: int
) -> None:
    encoder = encoders_for(PrometheusRemoteWrite("http://127.0.0.1:1/", version=version)).new
    body = encoder.encode(RAW_BATCHES.of(samples, position=1, opened_at=0.0))
    read = points_of if version == "1.0" else points_of_v2
    whole = list(read(body))
    rounds = encoder.rounds(body, most)
    pieces = [list(read(data)) for data, _ in rounds]
    assert [count for _, count in rounds] == [len(piece) for piece in pieces]
    assert len(pieces) <= most
    for piece in pieces[: most - 1]:
        assert len({point.labels for point in piece}) == len(piece)
    assert sorted(map(str, whole)) == sorted(str(point) for piece in pieces for point in piece)
    for labels in {point.labels for point in whole}:
        joined = [point for piece in pieces for point in piece if point.labels == labels]
        assert joined == [point for point in whole if point.labels == labels]
