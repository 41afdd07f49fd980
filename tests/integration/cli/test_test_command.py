"""``relay test`` with real endpoints of each kind: every step, verdict, advice; no secret shown."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import trustme

from relay.app import Relay
from relay.cli import main
from relay.config.settings.settings import load_settings
from relay.control.sink_test.point import METRIC
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.hostile_server import (
    HostileServer,
    answer_garbage,
    answer_without_end,
    never_answer,
)
from tests.kit.http.otlp_server import OtlpServer, Reply, partial_success
from tests.kit.http.remote_write_server import RemoteWriteServer
from tests.kit.kubernetes.fake_api import FakeApi, kubeconfig_of

TOKEN = "a-token-that-nobody-may-see"
SECRET = f"""
---
apiVersion: v1
kind: Secret
metadata: {{name: credentials}}
stringData: {{token: {TOKEN}}}
"""
AUTHENTICATION = {"type": "bearerToken", "secretRef": {"name": "credentials"}}
SETTINGS = "allowPrivateEndpoints: true\n"


@dataclass
class Commands:
    """Runs the command on manifests in a directory."""

    directory: Path
    capsys: pytest.CaptureFixture[str]

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output and errors."""
        self.capsys.readouterr()
        status = await asyncio.to_thread(main.main, ["test", *arguments])
        printed = self.capsys.readouterr()
        assert TOKEN not in printed.out + printed.err
        return status, printed.out, printed.err

    async def on(
        self, manifest: str, *arguments: str, settings: str = SETTINGS
    ) -> tuple[int, str, str]:
        """The result for one manifest and a Secret beside it."""
        path, config = self.directory / "manifest.yaml", self.directory / "relay.yaml"
        path.write_text(manifest + SECRET)
        config.write_text(settings)
        return await self.run("--config", str(config), str(path), *arguments)


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path, capsys)


def steps_of(out: str) -> dict[str, bool]:
    """The steps of an output, in their order, and whether they were good."""
    lines = [line.split() for line in out.splitlines()]
    return {words[1]: words[0] == "ok" for words in lines if words and words[0] in ("ok", "FAIL")}


def passed(*names: str) -> Mapping[str, bool]:
    """Steps that are all good, but for the last one if it begins with an exclamation mark."""
    return {name.lstrip("!"): not name.startswith("!") for name in names}


BEFORE = ("credentials", "name", "address", "connection")


async def test_a_good_endpoint_gets_one_point(commands: Commands) -> None:
    async with OtlpServer() as server:
        text = exporter_yaml("a", server.url, otlp_http={"authentication": AUTHENTICATION})
        status, out, _ = await commands.on(text)
        assert status == 0
        assert steps_of(out) == passed(*BEFORE, "answer", "body")
        assert out.startswith(f"default/a, sink endpoint: {server.url}\n")
        assert "bearerToken from Secret credentials" in out
        assert out.endswith("good: delivered: HTTP 200\n")
        (received,) = server.received
        assert received.headers["Authorization"] == f"Bearer {TOKEN}"
        (metric,) = received.message.resource_metrics[0].scope_metrics[0].metrics
        assert metric.name == METRIC
        assert received.values() == [1.0]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_a_receiver_of_remote_write(commands: Commands, version: str) -> None:
    async with RemoteWriteServer() as server:
        text = exporter_yaml("a", server.origin, version=version)
        status, out, _ = await commands.on(text)
        assert (status, steps_of(out)) == (0, passed(*BEFORE, "answer", "body"))
        (received,) = server.received
        assert received.version == version
        (point,) = received.points
        assert dict(point.labels) == {
            "__name__": METRIC,
            "exporter": "default/a",
            "sink": "endpoint",
        }


@pytest.mark.parametrize(
    ("reply", "message", "advice"),
    [
        (Reply(401, f"no {TOKEN}".encode()), "HTTP 401", "put the right ones into the sink's"),
        (Reply(403), "HTTP 403 Forbidden", "the credentials may not write there"),
        (Reply(404), "HTTP 404 Not Found", "nothing is at this path"),
        (Reply(415), "HTTP 415 Unsupported Media Type", "check the sink's kind, version and"),
        (Reply(429), "HTTP 429 Too Many Requests", "the relay would try again later"),
        (Reply(400, b"bad point"), "HTTP 400 Bad Request", "does not understand the point"),
        (Reply(500), "HTTP 500 Internal Server Error", "the endpoint has a fault of its own"),
        (Reply(308), "HTTP 308 Permanent Redirect", "write the address that it redirects to"),
        (
            Reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html"}),
            "success status with a body that is not an OTLP response",
            "something else answered",
        ),
        (partial_success(1, "too old"), "the point was rejected: too old", "may refuse others"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else None,
)
async def test_each_answer_says_what_to_do(
    commands: Commands, reply: Reply, message: str, advice: str
) -> None:
    async with OtlpServer(lambda _: reply) as server:
        text = exporter_yaml("a", server.url, otlp_http={"authentication": AUTHENTICATION})
        status, out, _ = await commands.on(text)
    assert status == 1
    ends = ("answer", "!body") if reply.status == 200 else ("!answer", "body")
    assert steps_of(out) == passed(*BEFORE, *ends)
    *_, verdict, what_to_do = out.splitlines()
    assert verdict.startswith(f"bad: {message}")
    assert what_to_do.startswith("what to do: ")
    assert advice in what_to_do
    if reply.status == 401:
        assert "no [redacted]" in out


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (never_answer, "no answer within 0.3 s"),
        (answer_garbage, "the answer is not HTTP"),
        (answer_without_end, "a body of more than 4 MiB"),
    ],
)
async def test_an_answer_that_is_none(commands: Commands, behaviour: object, message: str) -> None:
    async with HostileServer(behaviour) as server:  # type: ignore[arg-type]
        text = exporter_yaml("a", server.url, otlp_http={"timeout": "300ms"})
        status, out, _ = await commands.on(text)
    assert status == 1
    assert steps_of(out) == passed(*BEFORE, "!answer")
    assert message in out.splitlines()[-2]


async def test_nobody_listens(commands: Commands) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    status, out, _ = await commands.on(exporter_yaml("a", f"http://127.0.0.1:{port}"))
    assert (status, steps_of(out)) == (1, passed("credentials", "name", "address", "!connection"))
    assert "bad: cannot connect: Connection refused" in out


async def test_a_name_that_nobody_has(commands: Commands) -> None:
    status, out, _ = await commands.on(exporter_yaml("a", "https://none.invalid"))
    assert (status, steps_of(out)) == (1, passed("credentials", "!name"))
    assert "what to do: check the host" in out


async def test_a_private_address_needs_the_operators_word(commands: Commands) -> None:
    async with OtlpServer() as server:
        status, out, _ = await commands.on(
            exporter_yaml("a", server.url), settings="allowPrivateEndpoints: false\n"
        )
        assert not server.received
    assert (status, steps_of(out)) == (1, passed("credentials", "name", "!address"))
    assert "allowPrivateEndpoints" in out


async def test_tls_of_another_authority(commands: Commands) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(context)
    async with OtlpServer(tls=context) as server:
        status, out, _ = await commands.on(exporter_yaml("a", server.url))
        assert (status, steps_of(out)) == (1, passed(*BEFORE, "!tls"))
        assert "set tls.ca" in out
        skipping = exporter_yaml("a", server.url, otlp_http={"tls": {"insecureSkipVerify": True}})
        status, out, _ = await commands.on(skipping)
        assert (status, steps_of(out)) == (0, passed(*BEFORE, "tls", "answer", "body"))


async def test_through_the_proxy(commands: Commands) -> None:
    async with OtlpServer() as proxy:  # plain HTTP goes to it by absolute URLs
        settings = f"{SETTINGS}proxy: {{url: '{proxy.origin}'}}\n"
        text = exporter_yaml("a", "http://otlp.example.com")
        status, out, _ = await commands.on(text, settings=settings)
        assert status == 0, out
        assert steps_of(out) == passed("credentials", "name", "connection", "answer", "body")
        assert proxy.received[0].headers["Host"] == "otlp.example.com"
    text = exporter_yaml("a", "https://otlp.example.com")
    status, out, _ = await commands.on(text, settings=settings)
    assert (status, steps_of(out)) == (1, passed("credentials", "name", "!connection"))


async def test_a_proxy_that_opens_no_tunnel(commands: Commands) -> None:
    async with OtlpServer() as proxy:
        settings = f"{SETTINGS}proxy: {{url: '{proxy.origin}'}}\n"
        text = exporter_yaml("a", "https://otlp.example.com")
        status, out, _ = await commands.on(text, settings=settings)
    assert status == 1
    assert steps_of(out) == passed("credentials", "name", "connection", "!tunnel")
    assert "ask the operator of the relay" in out


async def test_a_secret_that_is_missing(commands: Commands) -> None:
    authentication = {"type": "bearerToken", "secretRef": {"name": "none"}}
    text = exporter_yaml(
        "a", "https://otlp.example.com", otlp_http={"authentication": authentication}
    )
    status, out, _ = await commands.on(text)
    assert (status, steps_of(out)) == (1, passed("!credentials"))
    assert "there is no such secret" in out


async def test_one_of_kubernetes_with_its_secret(commands: Commands) -> None:
    async with OtlpServer() as server, FakeApi() as api:
        sink = {
            "name": "s",
            "otlp_http": {"endpoint": server.origin, "authentication": AUTHENTICATION},
        }
        exporter = {
            "apiVersion": "telemetry.datumapis.com/v1alpha1",
            "kind": "Exporter",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"sources": [{"name": "s", "metrics": {"metricsql": "{}"}}], "sinks": [sink]},
        }
        data = {"token": base64.b64encode(TOKEN.encode()).decode()}
        metadata = {"name": "credentials", "namespace": "shop"}
        api.put("/apis/telemetry.datumapis.com/v1alpha1/exporters", exporter)
        api.put("/api/v1/secrets", {"metadata": metadata, "data": data})
        kubeconfig, config = commands.directory / "kubeconfig", commands.directory / "relay.yaml"
        kubeconfig.write_text(kubeconfig_of(api.url))
        config.write_text(SETTINGS)
        arguments = ("--config", str(config), "--kubeconfig", str(kubeconfig))
        status, out, err = await commands.run(*arguments, "--exporter", "shop/web")
        assert status == 0, out + err
        assert server.received[0].headers["Authorization"] == f"Bearer {TOKEN}"
        masked = {"token": base64.b64encode(b"****").decode()}
        api.put("/api/v1/secrets", {"metadata": metadata, "data": masked})
        status, _, err = await commands.run(*arguments, "--exporter", "shop/web")
        assert status == 1
        assert "Secret shop/credentials: its values are not shown to this user: use a token" in err
        assert len(server.received) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "PATH: or --relay or --kubernetes is required, one of them"),
        (("--kubernetes", "."), "PATH: or --relay or --kubernetes is required, one of them"),
        (("--relay", "ftp://x"), '--relay: must begin with "http://"'),
    ],
)
async def test_wrong_usage(commands: Commands, arguments: tuple[str, ...], complaint: str) -> None:
    status, out, err = await commands.run(*arguments)
    assert (status, out) == (1 if arguments[:1] == ("--relay",) else 2, "")
    assert complaint in err


async def test_a_sink_must_be_named_if_there_are_several(commands: Commands) -> None:
    text = exporter_yaml("a", "https://otlp.example.com")
    status, _, err = await commands.on(text, "--sink", "other")
    assert status == 1
    assert "sink: there is no sink other; default/a has endpoint" in err


@asynccontextmanager
async def relay_with(directory: Path, *manifests: str) -> AsyncIterator[Relay]:
    """A running relay."""
    for number, text in enumerate(manifests):
        (directory / f"{number}.yaml").write_text(
            text + SECRET.replace("credentials", f"c{number}")
        )
    paths = json.dumps([{"path": f"{number}.yaml"} for number in range(len(manifests))])
    (directory / "relay.yaml").write_text(
        f"{SETTINGS}listen: 127.0.0.1:0\nadminListen: 127.0.0.1:0\n"
        f"exporters: {paths}\n"
        "shutdown: {drainTimeout: 100ms}\n"
    )
    relay = Relay(load_settings(directory / "relay.yaml"))
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def test_a_running_sink_is_tested_by_its_relay(commands: Commands) -> None:
    authentication = {"type": "bearerToken", "secretRef": {"name": "c0"}}
    async with OtlpServer() as server:
        text = exporter_yaml("a", server.url, otlp_http={"authentication": authentication})
        async with relay_with(commands.directory, text) as relay:
            arguments = ("--relay", f"http://{relay.admin_address}", "--exporter")
            for _ in range(6):
                status, out, _ = await commands.run(*arguments, "default/a")
                assert (status, steps_of(out)) == (0, passed(*BEFORE, "answer", "body"))
            status, out, err = await commands.run(*arguments, "default/a")
            assert (status, out) == (1, "")
            assert "6 tests were made in the last minute" in err
            status, _, err = await commands.run(*arguments, "default/b")
            assert "there is no exporter default/b; there are default/a" in err
            assert [len(one.values()) for one in server.received] == [1] * 6
            (report,) = relay.facts().sinks
            assert (report.matched, report.ledger.delivered) == (0, 0)
        assert server.received[0].headers["Authorization"] == f"Bearer {TOKEN}"


async def test_the_listener_tests_one_at_a_time_of_a_host(commands: Commands) -> None:
    async with HostileServer(never_answer) as server:
        text = exporter_yaml("a", server.url, otlp_http={"timeout": "30s"})
        async with (
            relay_with(commands.directory, text) as relay,
            aiohttp.ClientSession(f"http://{relay.admin_address}") as session,
        ):
            page = "/test?exporter=default/a"
            first = await session.post(page)
            assert json.loads(await first.content.readline())["name"] == "credentials"
            async with session.post(page) as second:
                assert second.status == 429
                assert await second.text() == f"a test of 127.0.0.1:{server.port} is under way\n"
            async with session.post(page, headers={"Origin": "http://127.0.0.1"}) as third:
                assert third.status == 403
            first.close()
