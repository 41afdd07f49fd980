"""Logs and traces on the pages of a running relay: previewed, explained, tested, watched."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from relay.app import Relay
from relay.config.settings.api import ApiAuthentication, ApiSettings
from relay.config.settings.ingest_security import Admin
from relay.config.settings.settings import ListenAddress, Settings, Shutdown
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.processes import eventually
from tests.kit.stored_relay import AT_ONCE, Sender, running
from tests.kit.ui.visitor import Visitor

ANY = ListenAddress("127.0.0.1", 0)
GROUP = "/apis/telemetry.datumapis.com/v1alpha1/namespaces/default"
TEST = "/ui/exporters/default/a/sinks/out/test"


def exporter(url: str, **logs: Any) -> dict[str, Any]:
    return {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "sources": [
                {"name": "lines", "logs": {"selector": '{service_name="api"}', **logs}},
                {"name": "spans", "traces": {"sampleRatio": 1}},
                {"name": "numbers", "metrics": {"metricsql": "{}"}},
            ],
            "sinks": [{"name": "out", "otlp_http": {"endpoint": url}, "batch": {"timeout": "1ms"}}],
        },
    }


@asynccontextmanager
async def pages(folder: Path) -> AsyncIterator[tuple[Sender, Visitor, str]]:
    """A relay without logins; yield a sender, a visitor, and the address of the API."""
    settings = Settings(
        translation=AT_ONCE,
        listen=ANY,
        admin_listen=ANY,
        admin=Admin(tap=True),
        allow_private_endpoints=True,
        shutdown=Shutdown(drain_timeout_s=0.2),
        api=ApiSettings(
            folder / "api.db", ANY, http_listen=ANY, authentication=ApiAuthentication("none")
        ),
    )
    async with running(Relay(settings)) as sender, aiohttp.ClientSession() as session:
        assert sender.relay.own_api is not None
        url = f"http://{sender.relay.own_api.addresses[1]}"
        yield sender, Visitor(session, url, ssl.create_default_context()), url


async def test_logs_and_traces_from_the_form_to_the_endpoint(tmp_path: Path) -> None:
    async with OtlpServer() as server, pages(tmp_path) as (sender, visitor, url):
        base = server.url.removesuffix("/v1/metrics")
        for signal in ("logs", "traces"):
            assert await sender.send_records(signal, 3) == 200

        draft = {"base": json.dumps(exporter(base, minSeverity="WARN")), "text": "", "digest": ""}
        draft["text"] = draft["base"]
        shown = await visitor.post("/ui/preview", draft)
        wanted = "log records of <b>1</b> of your 1 resources, of which <b>3</b> came of late"
        assert wanted in shown.text, shown.text
        assert "severity WARN or more" in shown.text
        assert "of the records have no severity and do not pass" in shown.text
        assert "spans of <b>1</b> of your 1 resources, of which <b>3</b> came" in shown.text
        assert "Measure what comes" in shown.text

        form = await visitor.post("/ui/exporters/new/check", {**draft, "pane": "text"})
        assert 'name="spec.sources[0].logs.minSeverity"' in form.text
        assert 'name="spec.sources[1].traces.keep"' in form.text

        for text, option in (("{ser", 'service.name="'), ('{service.name="', 'api"}')):
            assert await offered(visitor, text) == [option]
        assert await offered(visitor, "serv") == []

        before = len(server.received)
        tried = await visitor.post("/ui/try", {**draft, "sink": "0"}, HX_Request="true")
        assert tried.text.count("It works") == 3, tried.text
        assert [one.signal for one in server.received[before:]] == ["metrics", "logs", "traces"]
        for signal in ("logs", "traces"):
            server.taken[:] = [one for one in server.taken if one.signal != signal]

        async with aiohttp.ClientSession() as api:
            async with api.post(f"{url}{GROUP}/exporters", json=exporter(base)) as made:
                assert made.status == 201, await made.text()
            await eventually("it runs", lambda: running_sinks(sender), timeout_s=10)
            for signal in ("logs", "traces"):
                assert await sender.send_records(signal, 5) == 200
                await server.wait_until(lambda: len(server.numbers(signal)) == 5)  # noqa: B023

            async def is_told() -> bool:
                async with api.get(f"{url}{GROUP}/exporters/a") as answer:
                    (sink,) = (await answer.json()).get("status", {}).get("sinks", [{}])
                signals = {one["signal"]: one["ledger"] for one in sink.get("signals", ())}
                told = [signals.get(name, {}).get("delivered") for name in ("logs", "traces")]
                return told == [5, 5] and signals["metrics"]["matched"] == 0

            await eventually("the status tells of each signal", is_told, timeout_s=10)

        page = await visitor.get("/ui/exporters/default/a")
        for said in ("<b>5</b> log records matched", "<b>5</b> spans matched", "Live spans"):
            assert said in page.text
        for signal in ("logs", "traces"):
            tested = await visitor.post(TEST, {"signal": signal})
            assert "It works" in tested.text, tested.text
            assert server.received[-1].signal == signal
        assert (await visitor.post(TEST, {"signal": "none"})).status == 404

        found = await visitor.get('/ui/explain?signal=logs&series={service.name="api"}')
        assert "Taken by 1" in found.text
        assert "source lines" in found.text
        found = await visitor.get('/ui/explain?signal=logs&series={service.name="other"}')
        assert "No exporter takes it" in found.text
        assert "service_name is" in found.text
        line = json.dumps({"severityNumber": 9, "body": {"stringValue": "<b>it</b>"}})
        asked = {"signal": "logs", "series": '{service.name="api"}', "records": line}
        found = await visitor.post("/ui/explain", asked)
        assert "source lines" in found.text
        assert "lines: takes all of them, to out" in found.text
        found = await visitor.post("/ui/explain", {**asked, "series": '{service.name="b"}'})
        assert "No exporter takes any" in found.text
        assert "service_name is" in found.text
        found = await visitor.post("/ui/explain", {**asked, "records": '{"msg": "<b>"}'})
        assert "which a log record of OTLP has not" in found.text
        assert "<b>" not in found.text
        listed = await visitor.get("/ui/explain?signal=traces")
        assert "Some of your resources" in listed.text


async def offered(visitor: Visitor, text: str) -> list[str]:
    """Return what may be inserted at the end of a selector of logs."""
    answer = await visitor.post("/ui/complete?signal=logs", {"text": text})
    return [one["insert"] for one in json.loads(answer.text)["options"]]


async def running_sinks(sender: Sender) -> bool:
    """Return whether all outputs run."""
    return len(list(sender.relay._reconciler.reports())) == 3
