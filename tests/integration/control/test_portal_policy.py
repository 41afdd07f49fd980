"""The objects that the platform's portal makes, as they are, in a whole relay."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from relay.app import Relay
from tests.kit.http.remote_write_server import RemoteWriteServer
from tests.kit.paths import ROOT
from tests.kit.processes import eventually
from tests.kit.sink.queue_status import metric
from tests.kit.stored_relay import made, running

PORTAL = (ROOT / "tests/data/export_policies/good/portal-grafana.yaml").read_text(encoding="utf-8")
GRAFANA = "https://prometheus-prod-56-prod-us-east-2.grafana.net/api/prom/push"
PORTAL_ID = "default/ExportPolicy/grafana-export-policy"
LABELS = {
    "service_name": "telemetry.miloapis.com",
    "resource_kind": "ExportPolicy",
    "resourcemanager_datumapis_com_project_name": "",
    "resource_namespace": "default",
    "resource_name": "grafana-export-policy",
    "resource_uid": "",
}


def portal_status(relay: Relay) -> dict[str, Any]:
    """The status of the portal's policy."""
    (found,) = [one for one in relay.status()["exporters"] if one["name"] == PORTAL_ID]  # type: ignore[attr-defined]
    return dict(found)


async def test_the_portals_objects_run_as_they_are(tmp_path: Path) -> None:
    async with RemoteWriteServer() as server:
        relay = made(tmp_path, PORTAL.replace(GRAFANA, server.url))
        async with running(relay) as sender:
            assert await sender.send(100) == 204  # a whole batch of 100 leaves at once
            await eventually(
                "the batch is delivered",
                lambda: portal_status(relay)["sinks"][0]["ledger"]["delivered"] == 100,
                timeout_s=5,
            )
            conditions = portal_status(relay)["conditions"]
            (condition,) = [one for one in conditions if one["type"] == "Ready"]
            assert (condition["type"], condition["reason"]) == ("Ready", "SinksAccepted")
            assert metric(relay, "datum_cloud_telemetry_export_policy_info", **LABELS) == 1
            accepted = {"sink_name": "grafana-cloud-metrics", "condition": "Accepted"}
            accepted |= {"reason": "SinkConfigured", "status": "True"}
            name = "datum_cloud_telemetry_export_policy_sink_status_condition"
            assert metric(relay, name, **LABELS, **accepted) == 1
        (request,) = server.received
        login = base64.b64encode(b"123456:example").decode()
        assert request.headers["Authorization"] == f"Basic {login}"
        assert len(request.points) == 100
