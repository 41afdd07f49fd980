"""Endpoints through an HTTP proxy: tunnels for HTTPS, whole URLs for HTTP, refusals with a name."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trustme

from relay.config.settings.proxy import Proxy
from relay.sink.http.client import Destination, HttpRequest, Transport
from relay.sink.http.response import HttpFailure, HttpResponse
from tests.kit.http.hostile_server import HostileServer
from tests.kit.http.otlp_server import OtlpServer


@dataclass
class ProxyServer:
    """A small HTTP proxy that keeps the heads it was sent. Whatever host is asked for, it connects
    to the address of ``upstream``."""

    upstream: tuple[str, int]
    status: int = 200
    heads: list[str] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ProxyServer]:
        """Listen on a free port of the loopback interface."""
        async with HostileServer(self._serve) as server:
            self.url = f"http://127.0.0.1:{server.port}"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            if self.status != 200:
                writer.write(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
            else:
                await self._forward(head, reader, writer)

    async def _forward(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        from_upstream, to_upstream = await asyncio.open_connection(*self.upstream)
        if head.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            method, target, rest = head.split(" ", 2)
            path = "/" + target.split("/", 3)[3]
            to_upstream.write(f"{method} {path} {rest}".encode())
        try:
            await asyncio.gather(_pump(reader, to_upstream), _pump(from_upstream, writer))
        finally:
            to_upstream.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a server's URL."""
    host, _, port = url.split("/")[2].partition(":")
    return host, int(port)


async def test_plain_http_asks_the_proxy_for_the_whole_url_and_reuses_the_connection() -> None:
    async with OtlpServer() as server:
        async with ProxyServer(address_of(server.url)).running() as proxy:
            settings = Proxy(proxy.url, "relay", "geheim")
            async with Transport(allow_private=False, proxy=settings) as transport:
                to = Destination("http://otlp.example.com/v1/metrics", {"Api-Key": "k"})
                for _ in range(2):
                    answer = await transport.post(HttpRequest(to, b"", 5.0))
                    assert isinstance(answer, HttpResponse), answer
                    assert answer.status == 200
        assert len(server.received) == 2
    assert len(proxy.heads) == 1, "one connection"
    assert proxy.heads[0].startswith("POST http://otlp.example.com/v1/metrics HTTP/1.1\r\n")
    credentials = base64.b64encode(b"relay:geheim").decode()
    assert f"Proxy-Authorization: Basic {credentials}\r\n" in proxy.heads[0]


async def test_https_goes_through_a_tunnel_that_the_proxy_cannot_read() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("otlp.example.com").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    async with OtlpServer(tls=server_context) as server:
        async with ProxyServer(address_of(server.url)).running() as proxy:
            settings = Proxy(proxy.url, "relay", "geheim")
            async with Transport(allow_private=False, proxy=settings) as transport:
                to = Destination(
                    "https://otlp.example.com/v1/metrics", {"Api-Key": "k"}, tls=client_context
                )
                answer = await transport.post(HttpRequest(to, b"", 5.0))
                assert isinstance(answer, HttpResponse), answer
        assert len(server.received) == 1
        assert "Proxy-Authorization" not in server.received[0].headers
    (head,) = proxy.heads
    assert head.startswith("CONNECT otlp.example.com:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic " in head
    assert "Api-Key" not in head


async def test_excluded_hosts_do_not_meet_the_proxy() -> None:
    async with OtlpServer() as server:
        async with ProxyServer(address_of(server.url)).running() as proxy:
            settings = Proxy(proxy.url, exclude=("127.0.0.1",))
            async with Transport(allow_private=True, proxy=settings) as transport:
                answer = await transport.post(HttpRequest(Destination(server.url, {}), b"", 5.0))
                assert isinstance(answer, HttpResponse), answer
        assert len(server.received) == 1
    assert proxy.heads == []


async def test_refusals_name_the_proxy() -> None:
    async with (
        ProxyServer(("127.0.0.1", 9), status=407).running() as proxy,
        Transport(allow_private=False, proxy=Proxy(proxy.url)) as transport,
    ):
        to = Destination("https://otlp.example.com/", {}, tls=ssl.create_default_context())
        answer = await transport.post(HttpRequest(to, b"", 5.0))
        assert answer == HttpFailure("connect_failed", "the proxy refuses: HTTP 407")
        to = Destination("http://169.254.169.254/", {})
        answer = await transport.post(HttpRequest(to, b"", 5.0))
        assert isinstance(answer, HttpFailure)
        assert answer.kind == "forbidden_address"
    async with Transport(allow_private=False, proxy=Proxy(proxy.url)) as transport:
        answer = await transport.post(HttpRequest(Destination("http://a.example/", {}), b"", 5.0))
        assert answer == HttpFailure(
            "connect_failed", "cannot connect to the proxy: Connection refused"
        )
