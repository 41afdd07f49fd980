"""The client against real sockets: hostile answers, and addresses that are not allowed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tracemalloc
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.sink.http.client import RESPONSE_BYTES_MAX, Destination, HttpRequest, Transport
from relay.sink.http.resolver import ThreadedResolver
from relay.sink.http.response import HttpFailure, HttpResponse
from relay.sink.retry.verdict import Retry, classify_failure
from tests.kit.http.client_calls import failure_of, http_request
from tests.kit.http.hostile_server import (
    Behaviour,
    HostileServer,
    answer_as_grpc,
    answer_early,
    answer_endless_chunk_extension,
    answer_endless_headers,
    answer_garbage,
    answer_interim_only,
    answer_status_zero,
    answer_twice,
    answer_without_end,
    close_after_answer,
    disconnect,
    drip_body,
    never_answer,
    read_nothing,
    redirect_to,
    reset_inside_body,
    take_unread,
)
from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.own_time import pass_time


class FakeResolver(AbstractResolver):
    """Answers with the next list of addresses each time it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("behaviour", "kind", "timeout_s"),
    [
        (never_answer, "timeout", 0.1),
        (answer_garbage, "invalid_http", 2.0),
        (answer_as_grpc, "invalid_http", 2.0),
        (answer_without_end, "response_too_large", 5.0),
        (answer_endless_headers, "disconnected", 2.0),
        (answer_interim_only, "disconnected", 2.0),
        (answer_status_zero, "invalid_http", 60.0),
        (answer_endless_chunk_extension, "disconnected", 5.0),
        (reset_inside_body, "disconnected", 2.0),
        (disconnect, "disconnected", 2.0),
        (drip_body, "timeout", 0.2),
    ],
)
async def test_hostile_answers(
    transport: Transport, behaviour: Behaviour, kind: str, timeout_s: float
) -> None:
    async with HostileServer(behaviour) as server:
        tracemalloc.start()
        try:
            answer = await failure_of(transport, http_request(server.url, timeout_s))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert answer.kind == kind
    assert "127.0.0.1" not in answer.message
    assert peak < 4 * RESPONSE_BYTES_MAX
    assert transport.statistics().in_flight == 0


async def test_a_grpc_port_is_called_one(transport: Transport) -> None:
    async with HostileServer(answer_as_grpc) as server:
        answer = await failure_of(transport, http_request(server.url))
    expected = "the answer is HTTP/2; is this a gRPC port (4317)? OTLP/HTTP is usually 4318"
    assert answer == HttpFailure("invalid_http", expected)


async def test_refused_connection_and_unknown_host(transport: Transport) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/metrics"
        answer = await failure_of(transport, http_request(url))
    assert answer == HttpFailure("connect_failed", "cannot connect: Connection refused")
    long_label = "a" * 64
    for host in ("nowhere.invalid", f"{long_label}.example", "a..example"):
        answer = await failure_of(transport, http_request(f"http://{host}/"))
        assert answer.kind == "connect_failed", host


async def test_the_path_stays_as_the_customer_wrote_it(transport: Transport) -> None:
    async with OtlpServer() as server:
        base = server.url.removesuffix("/v1/metrics")
        await transport.post(http_request(f"{base}/a/../b%2Fc/%7Ed/v1/metrics"))
        assert server.received[0].raw_path == "/a/../b%2Fc/%7Ed/v1/metrics"


async def test_redirects_are_not_followed(transport: Transport) -> None:
    async with (
        OtlpServer() as elsewhere,
        HostileServer(redirect_to(elsewhere.url)) as server,
    ):
        answer = await transport.post(http_request(server.url))
        assert isinstance(answer, HttpResponse)
        assert answer.status == 308
        assert elsewhere.received == []


async def test_nothing_is_decompressed_or_remembered(transport: Transport) -> None:
    headers = {"Content-Encoding": "gzip", "Set-Cookie": "a=b", "Retry-After": "3"}
    async with OtlpServer(lambda _: Reply(200, b"not gzip", headers)) as server:
        for _ in range(2):
            answer = await transport.post(http_request(server.url))
            assert isinstance(answer, HttpResponse)
            assert answer.body == b"not gzip"
            assert answer.headers["retry-after"] == "3"
        sent = server.received[1].headers
    assert "Cookie" not in sent
    assert sent["Accept-Encoding"] == "identity"
    assert sent["User-Agent"].startswith("relay/")
    assert " OTel-OTLP-Exporter-Python/" in sent["User-Agent"]


async def test_proxies_of_the_environment_are_ignored(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with OtlpServer() as server:
        assert isinstance(await transport.post(http_request(server.url)), HttpResponse)


async def test_large_bodies_and_kept_connections(transport: Transport) -> None:
    # Field 100 of the request, length-delimited: unknown to the server, and 3 MiB long.
    size = 3 * 1024 * 1024
    body = b"\xa2\x06" + b"\x80\x80\xc0\x01" + bytes(size)
    async with OtlpServer() as server:
        for _ in range(2):
            answer = await transport.post(HttpRequest(Destination(server.url, {}), body, 5.0))
            assert isinstance(answer, HttpResponse), answer
        assert [len(each.body) for each in server.received] == [len(body)] * 2


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"],
)
async def test_private_literals_and_names_are_refused(host: str) -> None:
    async with HostileServer(never_answer) as server, Transport(allow_private=False) as transport:
        answer = await failure_of(transport, http_request(f"http://{host}:{server.port}/"))
        assert answer.kind == "forbidden_address"
        assert server.connections == 0
        assert "127" not in answer.message


@pytest.mark.parametrize("host", ["127.1", "2130706433", "017700000001"])
async def test_odd_spellings_of_an_address_lead_nowhere(host: str) -> None:
    async with HostileServer(never_answer) as server, Transport(allow_private=False) as transport:
        answer = await failure_of(transport, http_request(f"http://{host}:{server.port}/"))
        assert answer.kind in ("connect_failed", "forbidden_address")  # the client refuses some
        assert server.connections == 0


async def test_metadata_is_refused_even_where_private_is_allowed(transport: Transport) -> None:
    answer = await failure_of(transport, http_request("http://169.254.169.254/latest/meta-data"))
    assert answer.kind == "forbidden_address"


async def test_a_name_that_changes_its_mind_is_checked_at_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.sink.http.client.DNS_CACHE_S", 0)
    resolver = FakeResolver(["192.0.2.1"], ["127.0.0.1"], ["10.0.0.1", "fd00::1", "::1"])
    async with (
        HostileServer(never_answer) as server,
        Transport(allow_private=False, resolver=resolver) as transport,
    ):
        for _ in range(3):
            answer = await failure_of(transport, http_request(f"http://rebind.test:{server.port}/"))
            assert answer.kind == "forbidden_address"
        assert server.connections == 0
    assert resolver.asked == 3


async def test_a_refused_address_does_not_hide_an_allowed_one() -> None:
    resolver = FakeResolver(["169.254.169.254", "127.0.0.1"])
    async with OtlpServer() as server, Transport(allow_private=True, resolver=resolver) as made:
        port = server.url.rsplit(":", 1)[1]
        assert isinstance(await made.post(http_request(f"http://two.test:{port}")), HttpResponse)


async def test_answers_of_the_resolver_are_numeric() -> None:
    resolver = ThreadedResolver()
    found = await resolver.resolve("127.0.0.1", 80)
    await resolver.close()
    assert [each["host"] for each in found] == ["127.0.0.1"]


async def test_cancelled_request_leaves_nothing_in_flight(transport: Transport) -> None:
    arrived = asyncio.Event()

    async def keep_waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await never_answer(reader, writer)

    async with HostileServer(keep_waiting) as server:
        task = asyncio.create_task(transport.post(http_request(server.url, 30.0)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert transport.statistics().in_flight == 0
    assert "0 in flight" in repr(transport)


async def test_one_connection_serves_one_request_after_the_other(transport: Transport) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                assert await reader.readexactly(length) == b"x" * length
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with HostileServer(serve) as server:
        to = Destination(server.url, {})
        for length in (0, 1, 100_000, 3_000_000, 5):
            answer = await transport.post(HttpRequest(to, b"x" * length, 5.0))
            assert answer == HttpResponse(200, {"content-length": "2"}, b"ok")
    assert len(connections) == 1


async def test_an_answer_that_is_known_means_what_it_meant(transport: Transport) -> None:
    """Also over another connection, and only byte for byte; what has a body is always read."""
    taken = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Turn: 1\r\n\r\n"
    other = taken.replace(b"1\r\n\r\n", b"2\r\n\r\n")
    refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"
    last = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    answers = [taken, taken, refused, taken, other, refused, last, taken, last, taken]

    left = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(next(left))

    async with HostileServer(serve) as server:
        to = Destination(server.url, {})
        for answer in answers:
            found = await transport.post(HttpRequest(to, b"", 5.0))
            assert isinstance(found, HttpResponse), found
            assert found.status == int(answer[9:12])
            assert found.body == (b"no" if answer is refused else b"")
            assert found.headers.get("x-turn") == {taken: "1", other: "2"}.get(answer)
        assert server.connections == 3, "a known answer does not keep what asks to be closed"


async def test_a_known_answer_with_something_behind_it_is_not_known(transport: Transport) -> None:
    taken = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    left = iter([taken, taken + b"HTTP/1.1 200", taken, taken])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(next(left))

    async with HostileServer(serve) as server:
        to = Destination(server.url, {})
        for _ in range(4):
            found = await transport.post(HttpRequest(to, b"", 5.0))
            assert found == HttpResponse(200, {"content-length": "0"}, b"")


@pytest.mark.parametrize("length", [8_000_000, 20_000_000])
async def test_an_answer_to_half_a_request_is_an_answer(transport: Transport, length: int) -> None:
    """And its connection is not used again: the rest of the body would be taken for a request."""
    async with HostileServer(answer_early) as server:
        for asked in (1, 2):
            answer = await transport.post(
                HttpRequest(Destination(server.url, {}), bytes(length), 5)
            )
            assert isinstance(answer, HttpResponse), answer
            assert answer.status == 413
            assert server.connections == asked
    assert transport.statistics().in_flight == 0


async def test_an_answer_that_nobody_asked_for_is_nobodys(transport: Transport) -> None:
    async with HostileServer(answer_twice) as server:
        for _ in range(3):
            answer = await transport.post(http_request(server.url))
            assert isinstance(answer, HttpResponse), answer
            assert answer.status == 200
            await pass_time(0.05)  # whatever else was sent has arrived


async def test_a_connection_that_was_closed_meanwhile_is_not_used(transport: Transport) -> None:
    async with HostileServer(close_after_answer) as server:
        for turn in range(3):
            answer = await transport.post(http_request(server.url))
            assert isinstance(answer, HttpResponse), (turn, answer)
            await pass_time(0.05)  # the end of the connection has arrived
        assert server.connections == 3


@pytest.mark.parametrize("length", [900_000, 30_000_000])
async def test_an_endpoint_that_never_reads_keeps_nothing(
    transport: Transport, length: int
) -> None:
    """Closing politely would wait for it to take the rest, and keep socket and body for ever."""
    async with HostileServer(read_nothing) as server:
        to = Destination(server.url, {})
        answer = await transport.post(HttpRequest(to, bytes(length), 0.3))
        assert isinstance(answer, HttpFailure)
        assert answer.kind == "timeout"
        await pass_time(0.05)
        assert open_sockets_to(server.port) == 0


def open_sockets_to(port: int) -> int:
    """Connections of this process as a client to that port, by the kernel's table."""
    rows = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    mine = {
        link[8:-1]
        for link in (os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.exists())
        if link.startswith("socket:[")
    }
    return sum(row.split()[9] in mine for row in rows if row.split()[2].endswith(f":{port:04X}"))


async def test_head_is_made_of_what_was_given_and_nothing_else(transport: Transport) -> None:
    """A customer's header replaces ours; what could end a header or a line is refused."""
    async with OtlpServer() as server:
        to = Destination(server.url, {"user-agent": "mine", "X-Scope-OrgID": "a b"})
        assert isinstance(await transport.post(HttpRequest(to, b"", 2.0)), HttpResponse)
        sent = server.received[0].headers
        assert {name.lower(): value for name, value in sent.items()} == {
            "host": server.url.split("/")[2],
            "user-agent": "mine",
            "accept-encoding": "identity",
            "accept": "*/*",
            "x-scope-orgid": "a b",
            "content-length": "0",
        }
        for name, value in (("X-A", "b\r\nX-C: d"), ("X-A\nX-B", "c"), ("X-A", "\x00")):
            with pytest.raises(ValueError, match="control character"):
                await transport.post(HttpRequest(Destination(server.url, {name: value}), b"", 2.0))
        answer = await failure_of(transport, http_request(f"{server.url}\r\nX-A: b"))
        assert answer.kind == "connect_failed"
        assert len(server.received) == 1


@pytest.mark.parametrize("length", [8_000_000, 20_000_000])
async def test_a_success_for_half_a_request_is_none(transport: Transport, length: int) -> None:
    async with HostileServer(take_unread) as server:
        answer = await transport.post(HttpRequest(Destination(server.url, {}), bytes(length), 5))
    assert isinstance(answer, HttpFailure), answer
    assert answer.kind == "unread_request"
    assert isinstance(classify_failure(answer), Retry)


async def test_a_success_for_all_of_a_request_is_one(transport: Transport) -> None:
    async with OtlpServer() as server:
        for _ in range(200):
            assert isinstance(await transport.post(http_request(server.url)), HttpResponse)
