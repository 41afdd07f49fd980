"""How every HTTP client connects: names, addresses, TLS and proxies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.config.settings.proxy import Proxy
from relay.sink.http.interface import HttpClient
from relay.sink.http.tls import TlsMaterial
from tests.contract.http_clients import (
    CHUNKED,
    OK,
    MakeClient,
    Script,
    fails,
    post,
    reuses,
    succeeds,
)
from tests.kit.http.hostile_server import Behaviour, HostileServer, answer_garbage, never_answer


class Names(AbstractResolver):
    """Addresses by name; ``asked`` counts."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Whatever was given for the first label."""
        self.asked += 1
        await asyncio.sleep(0.01)
        found = self.names.get(host.split(".", maxsplit=1)[0])
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing to close."""


@contextlib.asynccontextmanager
async def closing(client: HttpClient) -> AsyncIterator[HttpClient]:
    """Close a client in the end."""
    try:
        yield client
    finally:
        await client.close()


async def test_nobody_listens(client: HttpClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        await fails(client, post(url), "connect_failed")


async def test_every_address_of_a_name_is_tried(make_client: MakeClient) -> None:
    names = Names(two=["::1", "127.0.0.9", "127.0.0.1"])
    async with (
        closing(make_client(allow_private=True, resolver=names)) as client,
        HostileServer(Script(OK)) as server,
    ):
        url = f"http://two.test:{server.port}/"
        await asyncio.gather(*(succeeds(client, post(url)) for _ in range(5)))
        assert names.asked == 1, "asked once for all that wait"
        await fails(client, post("http://none.test/"), "connect_failed")


@pytest.mark.parametrize("allow_private", [False, True])
async def test_addresses_that_are_not_allowed_are_not_connected_to(
    make_client: MakeClient, allow_private: bool
) -> None:
    names = Names(metadata=["169.254.169.254"], inside=["127.0.0.1", "::1"])
    async with (
        closing(make_client(allow_private=allow_private, resolver=names)) as client,
        HostileServer(Script(OK)) as server,
    ):
        refused = ["metadata.test", "169.254.169.254"]
        private = ["127.0.0.1", "inside.test"]
        for host in refused if allow_private else refused + private:
            url = f"http://{host}:{server.port}/"
            await fails(client, post(url), "forbidden_address")
        assert server.connections == 0
        if allow_private:
            await succeeds(client, post(f"http://inside.test:{server.port}/"))


# TLS.


@contextlib.asynccontextmanager
async def tls_server(
    authority: trustme.CA, *names: str, behaviour: Behaviour
) -> AsyncIterator[int]:
    """A server with a certificate for some names; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    async with HostileServer(behaviour, context) as server:
        yield server.port


def trusting(authority: trustme.CA) -> TlsMaterial:
    """Material of a client that trusts an authority."""
    return TlsMaterial(ca=authority.cert_pem.bytes().decode())


async def test_tls_serves_one_request_after_the_other(
    client: HttpClient, authority: trustme.CA
) -> None:
    script = Script(OK, CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", OK)
    tls = client.context(trusting(authority))
    async with tls_server(authority, "localhost", behaviour=script) as port:
        for body in (b"", bytes(3_000_000), b"x"):
            await succeeds(client, post(f"https://localhost:{port}/", body, tls=tls))
    assert [len(body) for _, body in script.requests] == [0, 3_000_000, 1]


@pytest.mark.parametrize(
    ("server_name", "kind"),
    [("", "tls_failed"), ("right.test", None), ("wrong.test", "tls_failed")],
)
async def test_tls_checks_the_name(
    client: HttpClient, authority: trustme.CA, server_name: str, kind: str | None
) -> None:
    tls = client.context(trusting(authority))
    async with tls_server(authority, "right.test", behaviour=Script(OK)) as port:
        sent = post(f"https://localhost:{port}/", tls=tls, server_name=server_name)
        if kind is None:
            await succeeds(client, sent)
        else:
            await fails(client, sent, kind)


async def test_tls_of_a_stranger_and_none_at_all(client: HttpClient, authority: trustme.CA) -> None:
    stranger = client.context(trusting(trustme.CA()))
    lax = client.context(TlsMaterial(insecure_skip_verify=True))
    async with tls_server(authority, "localhost", behaviour=Script(OK)) as port:
        url = f"https://localhost:{port}/"
        await fails(client, post(url, tls=stranger), "tls_failed")
        await succeeds(client, post(url, tls=lax))
        await fails(client, post(url, tls=stranger), "tls_failed")  # and not over the other's
        await fails(client, post(url.replace("https", "HTTPS")), "tls_failed")  # by the system's
    async with HostileServer(answer_garbage) as server:
        url = f"https://localhost:{server.port}/"
        await fails(client, post(url, tls=lax), "tls_failed", "connect_failed")


async def test_tls_that_never_shakes_hands(client: HttpClient) -> None:
    lax = client.context(TlsMaterial(insecure_skip_verify=True))
    async with HostileServer(never_answer) as server:
        url = f"https://127.0.0.1:{server.port}/"
        await fails(client, post(url, tls=lax, timeout_s=0.2), "timeout")


# The proxy.


@dataclass
class ProxyScript:
    """A proxy that leads everything to ``port``, or says ``answer`` and closes."""

    port: int = 0
    answer: bytes = b""
    heads: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.answer:
            writer.write(self.answer)
            await writer.drain()
            return
        from_upstream, to_upstream = await asyncio.open_connection("127.0.0.1", self.port)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Established\r\n\r\n")
        else:
            to_upstream.write(head)
        try:
            await asyncio.gather(pump(reader, to_upstream), pump(from_upstream, writer))
        finally:
            to_upstream.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy to the end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_plain_requests_through_a_proxy(make_client: MakeClient) -> None:
    script, proxy = Script(OK), ProxyScript()
    async with HostileServer(script) as server, HostileServer(proxy) as front:
        proxy.port = server.port
        settings = Proxy(f"http://127.0.0.1:{front.port}", "me", "geheim")
        async with closing(make_client(allow_private=False, proxy=settings)) as client:
            for _ in range(2):
                await succeeds(client, post("http://otlp.example.com/v1?x=1", b"abc"))
            await fails(client, post("http://169.254.169.254/"), "forbidden_address")
        assert front.connections == (1 if reuses(client) else 2)
    assert script.requests[0][0].startswith(b"POST http://otlp.example.com/v1?x=1 HTTP/1.1\r\n")
    assert b"\r\nHost: otlp.example.com\r\n" in script.requests[0][0]
    assert b"Proxy-Authorization: Basic bWU6Z2VoZWlt\r\n" in script.requests[1][0]


async def test_tunnels_through_a_proxy(make_client: MakeClient, authority: trustme.CA) -> None:
    script, proxy = Script(OK), ProxyScript()
    async with (
        tls_server(authority, "otlp.example.com", behaviour=script) as port,
        HostileServer(proxy) as front,
    ):
        proxy.port = port
        settings = Proxy(f"http://127.0.0.1:{front.port}", "me", "geheim")
        async with closing(make_client(allow_private=False, proxy=settings)) as client:
            tls = client.context(trusting(authority))
            headers = {"Api-Key": "k"}
            for _ in range(2):
                url = "https://otlp.example.com/v1"
                await succeeds(client, post(url, b"abc", tls=tls, headers=headers))
            wrong = post("https://other.example.com/", tls=tls)
            await fails(client, wrong, "tls_failed")
    assert proxy.heads[0].startswith(b"CONNECT otlp.example.com:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6Z2VoZWlt\r\n" in proxy.heads[0]
    assert b"Api-Key" not in proxy.heads[0]
    assert len(proxy.heads) == (2 if reuses(client) else 3)
    assert script.requests[0][0].startswith(b"POST /v1 HTTP/1.1\r\n")
    assert b"Proxy-Authorization" not in script.requests[0][0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 No\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200",
    ],
)
async def test_a_proxy_that_refuses(make_client: MakeClient, answer: bytes) -> None:
    async with HostileServer(ProxyScript(answer=answer)) as front:
        settings = Proxy(f"http://127.0.0.1:{front.port}")
        async with closing(make_client(allow_private=False, proxy=settings)) as client:
            tls = client.context(TlsMaterial(insecure_skip_verify=True))
            sent = post("https://otlp.example.com/", tls=tls)
            await fails(client, sent, "connect_failed", "disconnected", "invalid_http")
    async with closing(make_client(allow_private=False, proxy=settings)) as client:
        await fails(client, post("http://a.example/"), "connect_failed")
