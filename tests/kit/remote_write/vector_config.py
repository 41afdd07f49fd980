"""A Vector configuration as Datum's operator renders it."""

from __future__ import annotations

from typing import Any

PROJECT = 'resourcemanager_datumapis_com_project_name="acme-prod"'
OWNER = "export-policy:acme-prod:default:grafana-export-policy:6f1c2d1e-5d0a-4d0e-9a53-1f7c0f0e4b1a"


def rendered(**sink: Any) -> dict[str, Any]:
    """What the operator renders of the portal's policy."""
    return {
        "sources": {
            f"{OWNER}:datum-metrics-source": {
                "type": "prometheus_scrape",
                "endpoints": ["http://vmauth.telemetry-system:8427/federate"],
                "auth": {"strategy": "basic", "user": "vector", "password": "platform"},
                "query": {"match[]": ["{" + PROJECT + "}"]},
            }
        },
        "sinks": {
            f"{OWNER}:grafana-cloud-metrics-sink": {
                "type": "prometheus_remote_write",
                "inputs": [f"{OWNER}:datum-metrics-source"],
                "endpoint": "https://prometheus-prod-56.grafana.net/api/prom/push",
                "auth": {"strategy": "basic", "user": "123456", "password": "glc_eyJ"},
                **sink,
            }
        },
    }
