"""What holds of every message that the pipeline decodes, and of one that is made up here."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from relay.codec.otlp.metrics import encode_time
from relay.codec.remote_write.v1 import Metadata, Pause, label_key, parse_labels
from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control.explain import Explainer
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.metrics.decoders import DECODERS
from relay.pipeline.metrics.hotpath.slow_path import append_sample
from relay.pipeline.metrics.series.lookup import SeriesLookup
from relay.receiver.request_target import protocol_of
from relay.runtime.errors import DecodeError, UnsupportedMediaError
from relay.selector.inventory.info_series import InfoReader
from relay.selector.metricsql.parser import parse_query
from relay.storage.journal.record import PROTOCOLS, Record, encode_record
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.ingest_server import running, snappy
from tests.kit.remote_write import raw
from tests.kit.remote_write.prompb import RawRequestV2
from tests.kit.remote_write.sample_writes import T0_MS

FAKE = "lines"


class Lines:
    """A line for each sample: name, value, time in ms."""

    content_type = ("text/x-lines", "")
    reports_written = False

    def decode(self, body: bytes, transaction: BatchTransaction, lookup: SeriesLookup) -> None:
        """Append the samples."""
        for name, value, time_ms in self._lines(body):
            series = lookup.get(label_key([("__name__", name)] if name != "-" else []))
            stamp = encode_time(time_ms)
            assert stamp is not None
            if series.fault:
                transaction.drop(series.fault, 1, name)
                continue
            transaction.sample_counts.append((series.match_set, 1))
            append_sample(series, stamp, struct.pack("<d", value), None, transaction)

    def metadata(self, body: bytes, *, bounded: bool, pause: Pause) -> list[Metadata]:
        """There is none."""
        return []

    def target_info_keys(
        self, body: bytes, *, bytes_max: int, bounded: bool, pause: Pause
    ) -> Iterator[bytes]:
        """There are none."""
        return iter(())

    def series_keys(self, body: bytes) -> Iterator[bytes]:
        """The keys."""
        for name, _, _ in self._lines(body):
            yield label_key([("__name__", name)])

    @staticmethod
    def _lines(body: bytes) -> Iterator[tuple[str, float, int]]:
        offset = 0
        for line in body.splitlines(keepends=True):
            try:
                name, value, time_ms = line.split()
                yield name.decode(), float(value), int(time_ms)
            except ValueError:
                raise DecodeError("a line is name, value, time", offset=offset) from None
            offset += len(line)


EXPORTER = Exporter(
    "",
    "default",
    "x",
    (Source("s", "a", parse_query("a")),),
    (Sink("otlp", ("s",), OtlpHttp("https://otlp.example.com/v1/metrics")),),
)

Samples = Sequence[tuple[str, float]]


def lines(samples: Samples) -> bytes:
    """A body of the made-up protocol; "-" is a series without a name."""
    return b"".join(f"{name} {value} {T0_MS}\n".encode() for name, value in samples)


def version1(samples: Samples) -> bytes:
    """A body of remote write 1.0."""
    return b"".join(
        raw.series([(b"a", b"b") if name == "-" else (b"__name__", name.encode())], (value, T0_MS))
        for name, value in samples
    )


def version2(samples: Samples) -> bytes:
    """A body of remote write 2.0."""
    request = RawRequestV2()
    symbols = ["", "__name__", "nameless"]
    for name, value in samples:
        if name not in symbols:
            symbols.append(name)
        series = request.timeseries.add()
        series.labels_refs.extend([2, 1] if name == "-" else [1, symbols.index(name)])
        bits = struct.unpack("<Q", struct.pack("<d", value))[0]
        series.samples.add(timestamp=T0_MS, value=bits)
    request.symbols.extend(symbol.encode() for symbol in symbols)
    return bytes(request.SerializeToString())


@dataclass(frozen=True)
class Case:
    """A protocol, how it is written, and a body that it cannot decode."""

    protocol: str
    encode: Callable[[Samples], bytes]
    content_type: str
    undecodable: bytes


CASES = [
    Case("remote_write_v1", version1, "application/x-protobuf", b"\x0a\xff"),
    Case(
        "remote_write_v2",
        version2,
        "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        b"\x2a\xff",
    ),
    Case(FAKE, lines, "text/x-lines", b"one two\n"),
]


@pytest.fixture(autouse=True)
def _with_the_made_up_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(DECODERS, FAKE, Lines())
    yield
    protocol_of.cache_clear()


@pytest.fixture(params=CASES, ids=lambda case: case.protocol)
def case(request: pytest.FixtureRequest) -> Case:
    """Each protocol in turn."""
    found: Case = request.param
    return found


def rig() -> Rig:
    """A pipeline with one sink that wants everything."""
    made = Rig()
    made.export(RigSink("s", limit=1000))
    return made


def points(made: Rig) -> list[tuple[str, float]]:
    """Name and value of every point that left."""
    made.flush()
    return [
        (point.name, struct.unpack("<d", struct.pack("<Q", point.value_bits))[0])
        for point in made.sinks[0].points()
    ]


SENT = [("a", 1.0), ("b", 2.5), ("c", 3.0)]


def test_every_registered_protocol_is_tested() -> None:
    assert set(DECODERS) == {case.protocol for case in CASES}


def test_samples_reach_the_batches(case: Case) -> None:
    made = rig()
    for _ in range(2):  # new series, then known ones
        result = made.feed(case.encode(SENT), protocol=case.protocol)
        assert result.taken.samples == 3
        assert not result.dropped
    assert sorted(points(made)) == sorted([*SENT, *SENT])
    assert made.engine.statistics().received_by_protocol == {case.protocol: 6}


def test_what_cannot_be_decoded_changes_nothing(case: Case) -> None:
    made = rig()
    made.feed(case.encode(SENT), protocol=case.protocol)
    before = made.snapshot()
    with pytest.raises(DecodeError):
        made.feed(case.encode(SENT) + case.undecodable, protocol=case.protocol)
    assert made.snapshot() == before


def test_a_faulty_series_costs_itself_alone(case: Case) -> None:
    made = rig()
    result = made.feed(case.encode([("a", 1.0), ("-", 2.0), ("c", 3.0)]), protocol=case.protocol)
    assert result.dropped == {"missing_name": 1}
    assert points(made) == [("a", 1.0), ("c", 3.0)]


def test_a_dry_run_says_the_same_and_takes_nothing(case: Case) -> None:
    made = rig()
    before = made.snapshot()
    probed = made.engine.dry_run(case.encode(SENT), now=1e9, protocol=case.protocol)
    assert probed.taken.samples == 3
    assert probed.wanted
    assert made.snapshot() == before


def test_a_replay_makes_the_same_points(case: Case) -> None:
    made, again = rig(), rig()
    made.feed(case.encode(SENT), protocol=case.protocol)
    replayed = again.engine.replay(
        case.encode(SENT), position=0, now=1e9, tick=0.0, protocol=case.protocol
    )
    again.hand_over(replayed.transaction.sealed)
    assert points(again) == points(made)


def test_the_protocols_share_series(case: Case) -> None:
    made = rig()
    for other in CASES:
        made.feed(other.encode(SENT), protocol=other.protocol)
    made.feed(case.encode(SENT), protocol=case.protocol)
    assert made.engine.table.statistics().active == 3


def test_the_receiver_recognises_the_content_type(case: Case) -> None:
    assert protocol_of(case.content_type) == case.protocol
    with pytest.raises(UnsupportedMediaError, match=r"application/x-protobuf or text/x-lines"):
        protocol_of("text/plain")


async def test_the_listener_hands_the_protocol_on(case: Case) -> None:
    body = case.encode(SENT)
    async with running() as relay:
        reply = await relay.send(snappy(body), headers={"Content-Type": case.content_type})
        assert reply.status == 204
        assert [(call.body, call.protocol) for call in relay.taker.calls] == [(body, case.protocol)]
        written = "X-Prometheus-Remote-Write-Samples-Written" in reply.headers
        assert written == DECODERS[case.protocol].reports_written


def test_the_keys_of_series_are_labels(case: Case) -> None:
    keys = DECODERS[case.protocol].series_keys(case.encode(SENT))
    assert [dict(parse_labels(key, labels_max=9)) for key in keys] == [
        {"__name__": name} for name, _ in SENT
    ]


def test_explain_reads_a_captured_request(case: Case) -> None:
    explainer = Explainer.offline([EXPORTER])
    told = list(
        explainer.captured(
            case.encode(SENT), EXPORTER.id, reader=InfoReader(()), protocol=case.protocol
        )
    )
    assert told[-1].endswith("takes 1 of 3 series")


def test_what_is_registered_in_the_product_can_be_journaled() -> None:
    for protocol in DECODERS:
        if protocol == FAKE:
            with pytest.raises(ValueError, match="has no number in the journal"):
                encode_record(Record(0, 0.0, "snappy", None, b"", protocol))
        else:
            assert protocol in PROTOCOLS
