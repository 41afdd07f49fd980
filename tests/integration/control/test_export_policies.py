"""ExportPolicies in a whole relay: sinks that are refused alone, and names that are shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.app import Relay
from relay.runtime.errors import ConfigError
from relay.telemetry.registry import CATALOGUE
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.processes import eventually
from tests.kit.sink.queue_status import edit
from tests.kit.sink_harness import unreachable
from tests.kit.stored_relay import made, manifest, running

TWO_SINKS = """\
---
apiVersion: telemetry.miloapis.com/v1alpha1
kind: ExportPolicy
metadata: {{name: {name}}}
spec:
  sources: [{{name: all}}]
  sinks:
    - name: first
      sources: [{first}]
      target:
        openTelemetry:
          http: {{endpoint: "{url}"}}
          batch: {{timeout: 1ms, maxSize: 500}}
    - name: second
      sources: [{second}]
      target:
        openTelemetry:
          http: {{endpoint: "{url}"}}
          batch: {{timeout: 1ms, maxSize: 500}}
"""


def policy(name: str, url: str, *, first: str = "all", second: str = "all") -> str:
    """A policy with two sinks of OTLP."""
    return TWO_SINKS.format(name=name, url=url, first=first, second=second)


def status_of(relay: Relay, name: str) -> dict[str, Any]:
    """The status of one exporter by its id."""
    (found,) = [one for one in relay.status()["exporters"] if one["name"] == name]  # type: ignore[attr-defined]
    return dict(found)


def sink_of(relay: Relay, name: str, sink: str) -> dict[str, Any]:
    """The status of one sink of one exporter."""
    (found,) = [one for one in status_of(relay, name)["sinks"] if one["name"] == sink]
    return dict(found)


def of_type(document: dict[str, Any], kind: str) -> dict[str, Any]:
    """The condition of one type, of an object or a sink."""
    (found,) = [one for one in document["conditions"] if one["type"] == kind]
    return dict(found)


def delivered(relay: Relay, name: str, sink: str) -> int:
    """Points that a sink has delivered."""
    return int(sink_of(relay, name, sink)["ledger"]["delivered"])


def labels_of(name: str) -> dict[str, str]:
    """The labels of a policy in its metrics."""
    return {
        "service_name": "telemetry.miloapis.com",
        "resource_kind": "ExportPolicy",
        "resourcemanager_datumapis_com_project_name": "",
        "resource_namespace": "default",
        "resource_name": name,
        "resource_uid": "",
    }


async def test_a_sink_of_unknown_sources_costs_no_other_one_anything(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, policy("a", server.url, second="al"))
        async with running(relay) as sender:
            assert await sender.send() == 204
            name = "default/ExportPolicy/a"
            await eventually(
                "delivered", lambda: delivered(relay, name, "first") == 10, timeout_s=5
            )
            document = status_of(relay, name)
            assert [one["name"] for one in document["sinks"]] == ["first"]
            ready = of_type(document, "Ready")
            assert (ready["status"], ready["reason"]) == ("False", "SinksNotAccepted")
            assert ready["message"] == "1/2 sinks are accepted"
            assert of_type(document, "Accepted")["status"] == "False"
            (refused,) = document["refusedSinks"]
            assert refused["name"] == "second"
            condition = of_type(refused, "Accepted")
            assert condition["reason"] == "InvalidSources"
            assert 'no source has the name "al"' in condition["message"]
            assert [one["path"] for one in relay.status()["faults"]] == [  # type: ignore[attr-defined]
                "spec.sinks[1].sources[0]"
            ]
            row = labels_of("a") | {"sink_name": "second", "condition": "Accepted"}
            row |= {"reason": "InvalidSources", "status": "False"}
            series = "datum_cloud_telemetry_export_policy_sink_status_condition"
            assert ([*row.values()], 0) in rows_of(relay, series)


def rows_of(relay: Relay, name: str) -> list[tuple[list[str], float]]:
    """All rows of one metric."""
    (spec,) = (spec for spec in CATALOGUE if spec.name == name)
    return [(list(values), float(value)) for values, value in spec.rows(relay.snapshot())]


async def test_a_relay_does_not_start_where_every_sink_is_refused(tmp_path: Path) -> None:
    relay = made(tmp_path, policy("a", unreachable(), first="al", second="al"))
    with pytest.raises(ConfigError, match="no source has the name"):
        await relay.start()
    await relay.stop()


async def test_a_sink_that_becomes_faulty_runs_on_in_its_last_good_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, policy("a", server.url))
        name = "default/ExportPolicy/a"
        async with running(relay) as sender:
            edit(tmp_path, policy("a", server.url, second="al"))
            await relay.reload()
            texts = [record.getMessage() for record in caplog.records]
            assert f"exporter {name}, sink second: its last good version goes on running" in texts
            assert await sender.send() == 204
            for sink in ("first", "second"):
                await eventually(
                    sink, lambda sink=sink: delivered(relay, name, sink) == 10, timeout_s=5
                )
            condition = of_type(sink_of(relay, name, "second"), "Accepted")
            assert condition["status"] == "False"
            assert condition["message"].endswith("; its last good version goes on running")
            assert status_of(relay, name)["refusedSinks"] == []
            edit(tmp_path, policy("a", server.url))
            await relay.reload()
            condition = of_type(sink_of(relay, name, "second"), "Accepted")
            assert condition["status"] == "True"


async def test_an_exporter_and_a_policy_of_one_name_are_two_objects(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        both = (manifest("a", unreachable()), policy("a", unreachable()))
        relay = made(tmp_path, *both)
        async with running(relay) as sender:
            assert await sender.send() == 204
            await eventually(
                "all wait",
                lambda: (
                    [
                        sink["ledger"]["queued"]
                        for exporter in relay.status()["exporters"]  # type: ignore[attr-defined]
                        for sink in exporter["sinks"]
                    ]
                    == [10, 10, 10]
                ),
                timeout_s=5,
            )
        names = {one["name"] for one in relay.status()["exporters"]}  # type: ignore[attr-defined]
        assert names == {"default/a", "default/ExportPolicy/a"}
        # Each finds its own queue after a restart, and delivers its own points.
        edit(tmp_path, policy("a", server.url), manifest("a", server.url))
        relay = made(tmp_path, policy("a", server.url), manifest("a", unreachable()))
        async with running(relay):
            for sink in ("first", "second"):
                await eventually(
                    sink,
                    lambda sink=sink: (
                        sink_of(relay, "default/ExportPolicy/a", sink)["ledger"]["queued"] == 0
                    ),
                    timeout_s=5,
                )
            assert sink_of(relay, "default/a", "endpoint")["ledger"]["queued"] == 10
