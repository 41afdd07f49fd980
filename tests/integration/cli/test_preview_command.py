"""``relay preview`` against a running relay: manifests, running exporters, tenancy, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from relay.api.tool_events import MANIFEST_BYTES_MAX
from relay.app import Relay
from relay.cli import main
from relay.config.settings.settings import load_settings
from relay.control.preview import service
from tests.kit.exporter_yaml import exporter_of, exporter_yaml
from tests.kit.kubernetes.fake_api import FakeApi, kubeconfig_of
from tests.kit.remote_write.write_client import WriteClient

SETTINGS = """
listen: 127.0.0.1:0
adminListen: 127.0.0.1:0
tenancy: {label: tenant}
exporters:
  - {path: acme.yaml, project: acme}
shutdown: {drainTimeout: 100ms}
"""
RUNNING = exporter_yaml("web", "https://otlp.example.com", metrics='{__name__="requests_total"}')
EDITED = RUNNING.replace('"requests_total"', '~"requests_total|errors_total",n=~"[0-4]"')


@dataclass
class Running:
    """A relay that has seen ten series of one customer and five of another."""

    relay: Relay
    directory: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def url(self) -> str:
        """The admin address."""
        return f"http://{self.relay.admin_address}"

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output and errors of a command that asks this relay."""
        self.capsys.readouterr()
        line = [arguments[0], "--relay", self.url, *arguments[1:]]
        status = await asyncio.to_thread(main.main, line)
        printed = self.capsys.readouterr()
        return status, printed.out, printed.err

    def file(self, text: str) -> str:
        """The path of a manifest."""
        path = self.directory / "edited.yaml"
        path.write_text(text)
        return str(path)


@pytest.fixture
async def running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Running]:
    (tmp_path / "acme.yaml").write_text(RUNNING)
    (tmp_path / "relay.yaml").write_text(SETTINGS)
    relay = Relay(load_settings(tmp_path / "relay.yaml"))
    await relay.start()
    try:
        async with WriteClient(f"http://{relay.ingest_address}/api/v1/write") as client:
            for name, tenant in (("requests_total", "acme"), ("errors_total", "acme")):
                await client.send(name, series=5, labels={"tenant": tenant})
            await client.send("errors_total", series=5, labels={"tenant": "globex"})
        yield Running(relay, tmp_path, capsys)
    finally:
        await relay.stop()


async def test_an_edit_is_shown_beside_the_running_version(running: Running) -> None:
    path = running.file(EDITED.replace("[0-4]", "[1-4]"))
    status, out, _ = await running.command("preview", "--project", "acme", "--measure", "0", path)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "acme/default/web takes 8 of 10 series now"
    assert lines[1] == "  4 more than its running version"
    assert lines[2].startswith('    errors_total{instance="h:1",job="api",n="1",tenant="acme"}')
    assert "  1 fewer than its running version" in lines
    assert "source all: 8 series of 2 metrics" in lines
    assert "            4  requests_total" in lines
    assert "globex" not in out


async def test_a_running_exporter_is_shown_alone(running: Running) -> None:
    status, out, _ = await running.command(
        "preview", "--exporter", "acme/default/web", "--measure", "1"
    )
    assert status == 0
    assert out.startswith("acme/default/web takes 5 of 10 series now, about 0 samples a minute\n")
    assert "running version" not in out
    assert out.endswith("samples a minute: estimated from arrivals in 1 s\n")


async def test_another_projects_series_are_not_seen(running: Running) -> None:
    path = running.file(EDITED)
    status, out, _ = await running.command("preview", "--project", "globex", "--measure", "0", path)
    assert status == 0
    assert out.startswith("globex/default/web takes 5 of 5 series now\n")
    assert "acme" not in out


async def test_one_of_kubernetes(running: Running) -> None:
    async with FakeApi() as api:
        document = {
            "apiVersion": "telemetry.datumapis.com/v1alpha1",
            "kind": "Exporter",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"sources": [{"name": "s", "metrics": {"metricsql": '{n="0"}'}}]},
        }
        api.put("/apis/telemetry.datumapis.com/v1alpha1/exporters", document)
        kubeconfig = running.directory / "kubeconfig"
        kubeconfig.write_text(kubeconfig_of(api.url))
        arguments = ["--kubeconfig", str(kubeconfig), "--project", "acme", "--measure", "0"]
        status, out, _ = await running.command("preview", *arguments, "--exporter", "shop/web")
        assert status == 0
        assert out.startswith("acme/shop/web takes 2 of 10 series now\n")
        status, _, err = await running.command("preview", *arguments, "--exporter", "shop/none")
        assert status == 1
        assert "has no Exporter shop/none" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "PATH: or --exporter is required"),
        (("--exporter", "acme/default/wep"), "there is no exporter acme/default/wep; there are"),
        (("{path}",), "project: is required: this relay has tenancy"),
        (("--exporter", "x", "{path}"), "has no x; there are default/web"),
        (("--measure", "0", "{path}.no"), "cannot be read: No such file or directory"),
    ],
)
async def test_what_cannot_be_answered_is_named(
    running: Running, arguments: tuple[str, ...], complaint: str
) -> None:
    path = running.file(EDITED)
    status, out, err = await running.command(
        "preview", *(one.format(path=path) for one in arguments)
    )
    assert (status, out) == (1 if arguments else 2, "")
    assert complaint in err


async def test_faults_of_a_manifest_are_shown_with_their_place(running: Running) -> None:
    path = running.file(EDITED.replace("[0-4]", "[0-"))
    status, _, err = await running.command("preview", "--project", "acme", path)
    assert status == 1
    assert "edited.yaml:" in err
    assert "spec.sources[0].metrics.metricsql" in err


async def test_sinks_need_not_be_good(running: Running) -> None:
    source = {"name": "s", "metrics": {"metricsql": "{}"}}
    path = running.file(exporter_of("new", [source], [{"name": "x", "sources": ["nope"]}]))
    status, out, _ = await running.command("preview", "--project", "acme", "--measure", "0", path)
    assert status == 0
    assert out.startswith("acme/default/new takes 10 of 10 series now\n")


async def test_the_listener_refuses(running: Running) -> None:
    async with aiohttp.ClientSession(running.url) as session:

        async def post(query: str, **options: object) -> tuple[int, str]:
            async with session.post(f"/preview?{query}", **options) as answer:  # type: ignore[arg-type]
                return answer.status, await answer.text()

        large = b" " * (MANIFEST_BYTES_MAX + 1)
        status, text = await post("project=acme", data=large)
        assert (status, text) == (400, "the manifest: is larger than 262144 bytes\n")
        status, text = await post("project=acme", data=b"\xff")
        assert status == 400
        assert text.startswith("the manifest: is not UTF-8 text")
        status, text = await post("project=acme", data=b"a: b")
        assert (status, text.rstrip()) == (
            400,
            "the manifest:1:1: must be of kind Exporter or ExportPolicy\n    a: …\n    ^",
        )
        status, text = await post("measure=soon&exporter=acme/default/web")
        assert (status, text) == (400, "measure: must be a whole number, such as 30\n")
        headers = {"Origin": "https://evil.example.com"}
        status, text = await post("exporter=acme/default/web", headers=headers)
        assert (status, text) == (403, "requests of web pages are refused\n")
        async with session.get("/preview") as answer:
            assert answer.status == 405


async def test_previews_wait_for_each_other_and_not_too_many(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WAITING_MAX", 2)
    async with aiohttp.ClientSession(running.url) as session:
        page = "/preview?exporter=acme/default/web&measure=30"
        first = await session.post(page)
        assert (await first.content.readline()).startswith(b'{"event":"progress"')
        second = await session.post(page)
        await second.content.readline()
        third = await session.post(page)
        assert (third.status, third.headers["Retry-After"]) == (429, "1")
        for answer in (first, second):
            answer.close()
        for _ in range(100):
            async with session.post(page.replace("30", "0")) as answer:
                if answer.status == 200:
                    events = [json.loads(line) async for line in answer.content]
                    break
            await asyncio.sleep(0.1)
        assert [event["event"] for event in events] == ["progress", "result"]
