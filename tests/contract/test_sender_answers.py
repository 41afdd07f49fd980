"""What senders are told, case by case.

The table at the top is the contract, decided purely; the rest of the file holds a real listener to
it. E40 to E48 are the vectors of the project's remote-write reference.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping

import pytest

from relay.config.settings.settings import Ingest
from relay.pipeline.contract import MULTITENANT, IngestResult, Tenant
from relay.receiver.request_target import message_of, protocol_of, tenant_of
from relay.receiver.responses import (
    TEXT_BYTES_MAX,
    Answer,
    Outcome,
    Reason,
    RefusedError,
    Rejection,
    Sender,
    VersionProbe,
    answer_to,
    refusal_of,
    sender_of,
)
from relay.runtime.errors import (
    DecodeError,
    ForbiddenAddressError,
    OverloadedError,
    TooLargeError,
    UnsupportedMediaError,
)
from tests.kit.ingest_server import MESSAGE, PROMETHEUS, VMAGENT, Reply, Running, Taker, running
from tests.kit.remote_write.raw import snappy, zstd

V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"

ANSWERS: list[tuple[Outcome, int, int]] = [
    # outcome, status for vmagent, status for Prometheus and unknown senders
    (IngestResult(3), 204, 204),
    (IngestResult(0), 204, 204),
    (IngestResult(3, {"duplicate_label": 0}), 204, 204),
    (IngestResult(3, {"duplicate_label": 1}), 204, 400),
    (IngestResult(0, {"duplicate_label": 1}), 204, 400),
    (VersionProbe(), 200, 200),
    (Rejection(Reason.NOT_FOUND, "x"), 404, 404),
    (Rejection(Reason.METHOD, "x"), 405, 405),
    (Rejection(Reason.TENANT, "x"), 400, 400),
    (Rejection(Reason.UNAUTHENTICATED, "x"), 401, 401),
    (Rejection(Reason.MEDIA_TYPE, "x"), 415, 415),
    (Rejection(Reason.BODY_TOO_LARGE, "x"), 400, 413),
    (Rejection(Reason.DECODED_TOO_LARGE, "x"), 400, 400),
    (Rejection(Reason.UNDECODABLE, "x"), 400, 400),
    (Rejection(Reason.INCOMPLETE_BODY, "x"), 400, 400),
    (Rejection(Reason.MALFORMED_HTTP, "x"), 400, 400),
    (Rejection(Reason.READ_TIMEOUT, "x"), 503, 503),
    (Rejection(Reason.CONCURRENCY, "x"), 503, 503),
    (Rejection(Reason.OVERLOADED, "x"), 503, 503),
    (Rejection(Reason.STOPPING, "x"), 503, 503),
    (Rejection(Reason.INTERNAL, "x"), 503, 503),
]


@pytest.mark.parametrize(("outcome", "to_vmagent", "to_others"), ANSWERS, ids=repr)
def test_status_by_sender(outcome: Outcome, to_vmagent: int, to_others: int) -> None:
    assert answer_to(outcome, Sender.VMAGENT).status == to_vmagent
    assert answer_to(outcome, Sender.OTHER).status == to_others


def test_every_reason_has_its_row() -> None:
    assert {o.reason for o, _, _ in ANSWERS if isinstance(o, Rejection)} == set(Reason)


def test_what_is_never_answered() -> None:
    """429 loses data at Prometheus, 409 at vmagent, 413 wedges vmagent; 503 always says when."""
    for (outcome, _, _), sender in itertools.product(ANSWERS, Sender):
        answer = answer_to(outcome, sender)
        assert answer.status not in {409, 429, 500}
        assert not (answer.status == 413 and sender is Sender.VMAGENT)
        assert (answer.status == 503) == ("Retry-After" in answer.headers)
        assert not any("written" in name.lower() for name in answer.headers)
        assert not (answer.status == 204 and answer.text)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DecodeError("bad tag", offset=3), Reason.UNDECODABLE),
        (TooLargeError("too large"), Reason.DECODED_TOO_LARGE),
        (UnsupportedMediaError("gzip"), Reason.MEDIA_TYPE),
        (OverloadedError("queue full", retry_after_s=7), Reason.OVERLOADED),
        (RefusedError(Rejection(Reason.TENANT, "no")), Reason.TENANT),
        (ForbiddenAddressError("10.0.0.1 of somebody"), Reason.INTERNAL),
        (AssertionError("position 7"), Reason.INTERNAL),
        (KeyError("x"), Reason.INTERNAL),
    ],
)
def test_errors_become_refusals_by_type(error: Exception, reason: Reason) -> None:
    refusal = refusal_of(error)
    assert refusal.reason is reason
    assert reason is not Reason.INTERNAL or str(error) not in refusal.text


@pytest.mark.parametrize(("asked_s", "said"), [(7, "7"), (0, "1"), (-3, "1")])
def test_retry_after_is_at_least_a_second(asked_s: int, said: str) -> None:
    refusal = refusal_of(OverloadedError("queue full", retry_after_s=asked_s))
    assert answer_to(refusal, Sender.OTHER).headers == {"Retry-After": said}


@pytest.mark.parametrize(
    ("user_agent", "vm_version", "sender"),
    [
        ("vmagent", "1", Sender.VMAGENT),
        ("vmagent", "", Sender.VMAGENT),
        ("vmagent/1.130.0", "", Sender.VMAGENT),
        (" VMAgent", "", Sender.VMAGENT),
        ("", "1", Sender.VMAGENT),
        ("Go-http-client/1.1", "1", Sender.VMAGENT),
        ("Prometheus/3.12.0", "", Sender.OTHER),
        ("", "", Sender.OTHER),
        ("not-vmagent", "", Sender.OTHER),
    ],
)
def test_who_is_asking(user_agent: str, vm_version: str, sender: Sender) -> None:
    assert sender_of(user_agent=user_agent, vm_version=vm_version) is sender


def test_partial_answer_says_what_was_dropped() -> None:
    dropped = {"duplicate_label": 2, "invalid_utf8": 0}
    answer = answer_to(
        IngestResult(8, dropped, ['up{a="1",a="2"}: duplicate label a']), Sender.OTHER
    )
    assert answer == Answer(
        400,
        '8 samples taken; dropped duplicate_label: 2; up{a="1",a="2"}: duplicate label a',
        partial=True,
    )


def test_texts_are_one_short_printable_line() -> None:
    """They end in other people's logs; Prometheus reads 1024 bytes of them."""
    faults = ["name\r\nInjected: \x1b[31m\udc80", "é" * 5000]
    text = answer_to(IngestResult(0, {"too_large": 2}, faults), Sender.OTHER).text
    assert text.isprintable()
    assert "name\\r\\nInjected: \\x1b[31m\\udc80" in text
    assert len(text.encode()) <= TEXT_BYTES_MAX
    assert text.endswith("…")


@pytest.mark.parametrize(
    ("path", "tenant"),
    [
        ("/api/v1/write", None),
        ("/api/v1/push", None),
        ("/prometheus/api/v1/write", None),
        ("/prometheus/api/v1/push", None),
        ("/api/v1/write/", None),
        ("//api/v1/write", None),
        ("/insert/0/prometheus/api/v1/write", Tenant(0)),
        ("/insert/42/prometheus/api/v1/push", Tenant(42)),
        ("/insert/42:7/prometheus/api/v1/write", Tenant(42, 7)),
        ("/insert/42:7/prometheus", Tenant(42, 7)),
        ("/insert/42:7/prometheus/", Tenant(42, 7)),
        ("//insert//42//prometheus//api/v1/write", Tenant(42)),
        ("/insert/4294967295:4294967295/prometheus", Tenant(4294967295, 4294967295)),
        ("/insert/007/prometheus", Tenant(7)),
    ],
)
def test_paths_that_are_served(path: str, tenant: Tenant | None) -> None:
    assert tenant_of(path) == tenant


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", Reason.NOT_FOUND),
        ("", Reason.NOT_FOUND),
        ("/metrics", Reason.NOT_FOUND),
        ("/api/v1/writes", Reason.NOT_FOUND),
        ("/API/V1/WRITE", Reason.NOT_FOUND),
        ("/api/v2/write", Reason.NOT_FOUND),
        ("/insert/42/api/v1/write", Reason.NOT_FOUND),
        ("/insert/42/prometheus/api/v1/import", Reason.NOT_FOUND),
        ("/insert/42/prometheus/api/v1/write\n", Reason.NOT_FOUND),
        ("/insert/prometheus", Reason.NOT_FOUND),
        ("/insert//prometheus", Reason.NOT_FOUND),
        ("/insert/Multitenant/prometheus/api/v1/write", Reason.TENANT),
        ("/insert/acme/prometheus", Reason.TENANT),
        ("/insert/-1/prometheus", Reason.TENANT),
        ("/insert/1_0/prometheus", Reason.TENANT),
        ("/insert/٤٢/prometheus", Reason.TENANT),
        ("/insert/4294967296/prometheus", Reason.TENANT),
        ("/insert/1:4294967296/prometheus", Reason.TENANT),
        ("/insert/1:/prometheus", Reason.TENANT),
        ("/insert/:1/prometheus", Reason.TENANT),
        ("/insert/1:2:3/prometheus", Reason.TENANT),
    ],
)
def test_paths_that_are_refused(path: str, reason: Reason) -> None:
    with pytest.raises(RefusedError) as caught:
        tenant_of(path)
    assert caught.value.refusal.reason is reason


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "application/x-protobuf",
        "Application/X-Protobuf",
        " application/x-protobuf ; ",
        "application/x-protobuf;proto=prometheus.WriteRequest",
        'application/x-protobuf; proto="prometheus.WriteRequest"',
        "application/x-protobuf ; PROTO = prometheus.writerequest",
        "application/x-protobuf; charset=utf-8; proto=prometheus.WriteRequest",
    ],
)
def test_content_types_of_remote_write_1(header: str | None) -> None:
    assert protocol_of(header) == message_of(header) == "remote_write_v1"


@pytest.mark.parametrize(
    "header",
    [
        "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        'application/x-protobuf; proto="io.prometheus.write.v2.Request"',
    ],
)
def test_content_types_of_remote_write_2(header: str) -> None:
    assert protocol_of(header) == message_of(header) == "remote_write_v2"


@pytest.mark.parametrize(
    "header",
    [
        "application/x-protobuf;proto=prometheus.WriteRequest;proto=io.prometheus.write.v2.Request",
        "application/x-protobuf;proto=",
        "application/x-protobuf;proto",
        "application/x-protobufs",
        "application/protobuf",
        "application/json",
        "application/x-www-form-urlencoded",
        ";proto=prometheus.WriteRequest",
    ],
)
def test_other_content_types(header: str) -> None:
    with pytest.raises(UnsupportedMediaError):
        protocol_of(header)
    assert message_of(header) is None


# The same, from a real listener.


@pytest.fixture
async def relay() -> AsyncIterator[Running]:
    async with running(Ingest(body_bytes_max=2048, decoded_bytes_max=4096)) as served:
        yield served


_REPETITIVE = b"\x00" * 4097
_INCOMPRESSIBLE = bytes((i * i * 31 + i // 256) % 251 for i in range(2100))


@pytest.mark.parametrize("who", [PROMETHEUS, VMAGENT, {}], ids=["prometheus", "vmagent", "unknown"])
@pytest.mark.parametrize(
    ("headers", "body", "to_vmagent", "to_others"),
    [
        # E40: exemplar-only, metadata-only and empty messages are the pipeline's; all bodies pass.
        ({}, snappy(MESSAGE), 204, 204),
        ({}, b"", 204, 204),
        ({}, snappy(b""), 204, 204),
        ({"Content-Encoding": "zstd"}, zstd(b""), 204, 204),
        # E45
        ({"Content-Encoding": "gzip"}, b"corrupt", 415, 415),
        ({"Content-Encoding": "snappy, zstd"}, snappy(MESSAGE), 415, 415),
        ({"Content-Type": "application/json"}, b"corrupt", 415, 415),
        ({}, b"corrupt", 400, 400),
        ({"Content-Encoding": "zstd"}, zstd(MESSAGE)[:-1], 400, 400),
        ({}, b"\xff\x06\x00\x00sNaPpY", 400, 400),
        ({}, snappy(_REPETITIVE), 400, 400),
        ({"Content-Encoding": "zstd"}, zstd(_REPETITIVE), 400, 400),
        ({}, _INCOMPRESSIBLE, 400, 413),
        # E46
        ({"Content-Encoding": "snappy"}, zstd(MESSAGE), 204, 204),
        ({"Content-Encoding": "zstd"}, snappy(MESSAGE), 204, 204),
        ({}, zstd(MESSAGE), 204, 204),
        ({"Content-Encoding": "ZSTD"}, zstd(MESSAGE), 204, 204),
        ({"Content-Type": V2}, snappy(MESSAGE), 204, 204),
        ({"Content-Type": f"{V2};proto=prometheus.WriteRequest"}, snappy(MESSAGE), 415, 415),
    ],
)
async def test_bodies(
    relay: Running,
    who: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    to_vmagent: int,
    to_others: int,
) -> None:
    reply = await relay.send(body, headers={**who, **headers})
    assert reply.status == (to_vmagent if who is VMAGENT else to_others)
    assert reply.headers["Server"] == "relay"
    taken = reply.status == 204
    assert len(relay.taker.calls) == taken
    assert bool(reply.body) is not taken
    told = any("written" in name.lower() for name in reply.headers)
    assert told is (headers.get("Content-Type") == V2)


async def test_e45_what_cannot_be_unpacked(relay: Running) -> None:
    gzip = await relay.send(b"corrupt", headers={"Content-Encoding": "gzip"})
    assert gzip.status == 415
    framed = b"\xff\x06\x00\x00sNaPpY" + snappy(MESSAGE)
    for body in (b"\xff corrupt", framed):
        assert (await relay.send(body)).status == 400
    bomb = await relay.send(b"\xff\xff\xff\xff\x07" + b"\x00" * 64)
    assert bomb.status in (400, 413)
    assert not relay.taker.calls


async def test_e46_mislabelled_encodings(relay: Running) -> None:
    for encoding, body in (("snappy", zstd(MESSAGE)), ("zstd", snappy(MESSAGE))):
        assert (await relay.send(body, headers={"Content-Encoding": encoding})).status == 204
    assert [call.body for call in relay.taker.calls] == [MESSAGE, MESSAGE]


async def test_e47_probe(relay: Running) -> None:
    reply = await relay.send(b"", path="/api/v1/write?get_vm_proto_version=1")
    assert (reply.status, reply.body) == (200, b"1")
    assert not relay.taker.calls


async def test_probe_with_a_body_is_a_write(relay: Running) -> None:
    """The query stuck in a configured URL must not turn data into nothing."""
    reply = await relay.send(path="/api/v1/write?get_vm_proto_version=1")
    assert reply.status == 204
    assert relay.taker.calls


async def test_e48_tenant_path(relay: Running) -> None:
    reply = await relay.send(path="/insert/42:7/prometheus/api/v1/write")
    assert reply.status == 204
    assert relay.taker.calls[0].tenant == Tenant(42, 7)


async def test_e48_multitenant_path(relay: Running) -> None:
    reply = await relay.send(path="/insert/multitenant/prometheus/api/v1/write")
    assert reply.status == 204
    assert relay.taker.calls[0].tenant == MULTITENANT


@pytest.mark.parametrize(
    ("who", "status", "text"),
    [
        (PROMETHEUS, 400, b"3 samples taken; dropped duplicate_label: 1; up: duplicate label"),
        (VMAGENT, 204, b""),
    ],
    ids=["prometheus", "vmagent"],
)
async def test_bad_series_in_a_good_request(
    who: Mapping[str, str], status: int, text: bytes
) -> None:
    outcome = IngestResult(3, {"duplicate_label": 1}, ["up: duplicate label"])
    async with running(taker=Taker(outcome)) as relay:
        reply = await relay.send(headers=who)
        assert (reply.status, reply.body) == (status, text)
        figures = relay.server.statistics()
    assert figures.partial == 1
    assert not any(figures.refused.values())


@pytest.mark.parametrize("who", [PROMETHEUS, VMAGENT], ids=["prometheus", "vmagent"])
@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (OverloadedError("queue full", retry_after_s=9), 503, "9"),
        (DecodeError("truncated", offset=17), 400, None),
        (TooLargeError("too many series"), 400, None),
        (RuntimeError("a bug"), 503, "1"),
    ],
)
async def test_what_taking_in_may_raise(
    who: Mapping[str, str], error: Exception, status: int, retry_after: str | None
) -> None:
    async with running(taker=Taker(error)) as relay:
        reply = await relay.send(headers=who)
    assert reply.status == status
    assert reply.headers.get("Retry-After") == retry_after
    assert b"a bug" not in reply.body


async def test_method_and_path(relay: Running) -> None:
    reply = await relay.send(None, method="GET")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    reply = await relay.send(path="/write")
    assert reply.status == 404
    assert b"/api/v1/write" in reply.body


# Remote write 2.0: what was written, in every answer, and never for 1.0.


def written(reply: Reply) -> list[str | None]:
    """The three headers, None where absent."""
    names = ("Samples", "Histograms", "Exemplars")
    return [reply.headers.get(f"X-Prometheus-Remote-Write-{name}-Written") for name in names]


@pytest.mark.parametrize(
    ("outcome", "status", "figures"),
    [
        (IngestResult(3, histograms=2, exemplars=1), 204, ["3", "2", "1"]),
        (IngestResult(3, {"missing_name": 1}), 400, ["3", "0", "0"]),
        (DecodeError("no"), 400, ["0", "0", "0"]),
        (OverloadedError("later"), 503, ["0", "0", "0"]),
        (AssertionError("a bug"), 503, ["0", "0", "0"]),
    ],
)
async def test_what_was_written_is_told_to_remote_write_2_alone(
    outcome: IngestResult | Exception, status: int, figures: list[str]
) -> None:
    async with running(taker=Taker(outcome)) as served:
        reply = await served.send(headers={**PROMETHEUS, "Content-Type": V2})
        assert (reply.status, written(reply)) == (status, figures)
        assert served.taker.calls[-1].protocol == "remote_write_v2"
        reply = await served.send(headers=PROMETHEUS)
        assert (reply.status, written(reply)) == (status, [None] * 3)
        assert served.taker.calls[-1].protocol == "remote_write_v1"


async def test_a_refusal_before_decoding_wrote_nothing(relay: Running) -> None:
    gzip = {"Content-Type": V2, "Content-Encoding": "gzip"}
    reply = await relay.send(b"corrupt", headers=gzip)  # E45
    assert (reply.status, written(reply)) == (415, ["0"] * 3)
    reply = await relay.send(b"corrupt", headers={"Content-Type": "application/json"})
    assert (reply.status, written(reply)) == (415, [None] * 3)
