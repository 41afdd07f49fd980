"""A request that is served at once has the answer, the counts and the call of one that waits."""

from __future__ import annotations

import gzip
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from relay.codec import official_classes
from relay.codec.compression import SenderEncoding, decompress_as_said
from relay.config.settings.settings import Ingest, SenderAuthentication
from relay.pipeline.contract import IngestRequest, IngestResult
from relay.receiver import remote_write
from relay.runtime.errors import DecodeError, OverloadedError, TooLargeError
from relay.telemetry.histogram import Distribution
from tests.kit.ingest_server import MESSAGE, PROMETHEUS, VMAGENT, Taker, running
from tests.kit.remote_write.raw import snappy

BODY = snappy(MESSAGE)
V2 = {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
GZIP = {**PROTOBUF, "Content-Encoding": "gzip"}
TAKEN = IngestResult(2)
PARTLY = IngestResult(3, {"too_old": 2}, ("up: too_old",), 1, 1)
NO_FAULTS = IngestResult(1, {"too_old": 0})


@dataclass
class Waiting(Taker):
    """Takes nothing at once."""

    async def accept(self, request: IngestRequest) -> IngestResult:
        return self.accept_at_once(request)


@dataclass
class AtOnce(Taker):
    """Takes everything at once."""

    waited: int = 0

    @property
    def is_free(self) -> bool:
        return True

    async def accept(self, request: IngestRequest) -> IngestResult:
        self.waited += 1
        return self.accept_at_once(request)


@dataclass(frozen=True)
class Case:
    body: bytes = BODY
    path: str = "/api/v1/write"
    headers: Mapping[str, str] = field(default_factory=dict)
    outcome: Any = TAKEN
    settings: Ingest = field(default_factory=Ingest)
    waits: bool = False
    """It is refused before the body is looked at, or converted in a thread."""


CASES = {
    "v1": Case(headers=PROMETHEUS),
    "tenant": Case(path="/insert/7:8/prometheus/api/v1/write"),
    "v1_partly": Case(headers=PROMETHEUS, outcome=PARTLY),
    "vmagent_partly": Case(headers=VMAGENT, outcome=PARTLY),
    "no_faults": Case(outcome=NO_FAULTS),
    "v2": Case(headers=V2),
    "v2_partly": Case(headers=V2, outcome=PARTLY),
    "logs": Case(gzip.compress(b"x"), "/v1/logs", GZIP),
    "logs_partly": Case(gzip.compress(b"x"), "/v1/logs", GZIP, outcome=PARTLY),
    "logs_no_faults": Case(gzip.compress(b"x"), "/v1/logs", GZIP, outcome=NO_FAULTS),
    "metrics": Case(b"x", "/insert/3/opentelemetry/v1/metrics", PROTOBUF),
    "json": Case(b"{}", "/v1/logs", {"Content-Type": "application/json"}, waits=True),
    "not_gzip": Case(b"x", "/v1/logs", GZIP),
    "corrupt": Case(b"\x04\xff\xff"),
    "decoded_too_large": Case(snappy(bytes(2000)), settings=Ingest(decoded_bytes_max=1000)),
    "too_large": Case(settings=Ingest(body_bytes_max=4), waits=True),
    "undecodable": Case(outcome=DecodeError("no message")),
    "logs_undecodable": Case(b"x", "/v1/logs", PROTOBUF, outcome=DecodeError("no message")),
    "overloaded": Case(outcome=OverloadedError("full", retry_after_s=7)),
    "too_many": Case(outcome=TooLargeError("too many elements")),
    "bug": Case(headers=VMAGENT, outcome=ValueError("secret")),
    "media_type": Case(headers={"Content-Type": "text/plain"}, waits=True),
    "path": Case(path="/api/v2/write", waits=True),
    "credentials": Case(
        headers={"Authorization": "Bearer right"},
        settings=Ingest(authentication=SenderAuthentication("bearer", token="right")),
    ),
    "wrong_credentials": Case(
        headers={"Authorization": "Bearer wrong"},
        settings=Ingest(authentication=SenderAuthentication("bearer", token="right")),
        waits=True,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_request_at_once_is_as_one_that_waits(name: str) -> None:
    case = CASES[name]
    official_classes.load()  # else a request of OTLP metrics would wait for it
    found = []
    for taker in (Waiting(case.outcome), AtOnce(case.outcome)):
        async with running(case.settings, taker=taker) as listener:
            for _ in range(2):  # the head is known the second time
                reply = await listener.send(case.body, path=case.path, headers=case.headers)
                headers = {key: text for key, text in reply.headers.items() if key != "Date"}
                found.append((reply.status, headers, reply.body))
            figures = listener.server.statistics()
        assert sum(figures.durations.counts) == 2
        found.append((msgspec.structs.replace(figures, durations=Distribution()), taker.calls))
    assert found[:3] == found[3:]
    assert isinstance(taker, AtOnce)
    assert taker.waited == (2 if case.waits and taker.calls else 0)


@pytest.mark.parametrize(
    ("reason", "bodies_bytes_max"), [("stopping", 1 << 20), ("concurrency", 1 << 20), ("bodies", 4)]
)
async def test_nothing_is_served_at_once_where_there_is_no_room(
    reason: str, bodies_bytes_max: int
) -> None:
    async with running(taker=AtOnce(), bodies_bytes_max=bodies_bytes_max) as listener:
        server = listener.server
        server._stopping = reason == "stopping"
        others = Ingest().concurrent_requests_max if reason == "concurrency" else 0
        server._counters.in_flight += others
        reply = await listener.send(headers=PROMETHEUS)
        server._counters.in_flight -= others
        assert reply.status == 503
        assert not listener.taker.calls


async def test_a_body_for_a_thread_and_a_request_for_slices_wait() -> None:
    class Sliced(AtOnce):
        def accept_at_once(self, request: IngestRequest) -> Any:
            return super().accept_at_once(request) if self.waited else None

    large = b"\x00" * (5 << 20)
    async with running(taker=Sliced()) as listener:
        assert (await listener.send()).status == 204
        figures = listener.server.statistics()
        assert (figures.compressed_bytes, figures.decoded_bytes) == (len(BODY), len(MESSAGE))
    async with running(taker=AtOnce()) as listener:
        body = gzip.compress(large)
        assert (await listener.send(body, path="/v1/logs", headers=GZIP)).status == 200
        figures = listener.server.statistics()
        assert (figures.compressed_bytes, figures.decoded_bytes) == (len(body), len(large))
        assert isinstance(listener.taker, AtOnce)
        assert listener.taker.waited == 1
        assert len(listener.taker.calls) == 1


async def test_the_first_body_of_otlp_metrics_waits_for_an_import_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []

    def load() -> None:
        threads.append(threading.current_thread())
        monkeypatch.setattr(official_classes, "_is_loaded", True)

    monkeypatch.setattr(official_classes, "_is_loaded", False)
    monkeypatch.setattr(official_classes, "load", load)
    async with running(taker=AtOnce()) as listener:
        taker = listener.taker
        assert isinstance(taker, AtOnce)
        assert (await listener.send(headers=PROMETHEUS)).status == 204
        assert taker.waited == 0
        assert (await listener.send(b"x", path="/v1/logs", headers=PROTOBUF)).status == 200
        assert (taker.waited, threads) == (0, [])
        assert (await listener.send(b"", path="/v1/metrics", headers=PROTOBUF)).status == 200
        assert (taker.waited, threads) == (1, [])
        for _ in range(2):
            assert (await listener.send(b"x", path="/v1/metrics", headers=PROTOBUF)).status == 200
        assert taker.waited == 2
    (thread,) = threads
    assert thread is not threading.current_thread()


async def test_a_large_gzip_body_is_decompressed_in_a_thread_whatever_it_decodes_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []

    def decode(raw: bytes, encoding: SenderEncoding, *, bytes_max: int) -> bytes:
        threads.append(threading.current_thread())
        return decompress_as_said(raw, encoding, bytes_max=bytes_max)

    monkeypatch.setattr(remote_write, "decoder_of", lambda _: decode)
    noise = random.Random(1).randbytes(remote_write.INLINE_GZIP_BYTES_MAX)
    async with running(taker=AtOnce()) as listener:
        for size, is_inline in ((1000, True), (len(noise), False)):
            body = gzip.compress(noise[:size])
            assert (await listener.send(body, path="/v1/logs", headers=GZIP)).status == 200
            assert (threads.pop() is threading.current_thread()) is is_inline
    assert not threads
