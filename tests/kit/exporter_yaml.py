"""Exporter manifests as YAML text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

API_VERSION = "telemetry.datumapis.com/v1alpha1"

Block = Mapping[str, Any]
"""A mapping of the manifest, by the names of the schema."""

PATIENT: Block = {"timeout": "1m"}
"""Of ``otlp_http``: no attempt is given up and made again, which may deliver a batch twice, only
because a busy machine held up the endpoint, which often is in the test's own process."""

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # some tests write thousands


def exporter_yaml(
    name: str,
    endpoint: str,
    *,
    namespace: str = "",
    source: str = "all",
    metrics: str | Block = "",
    sink: str = "endpoint",
    version: str = "",
    otlp_http: Block | None = None,
    **blocks: Block | bool,
) -> str:
    """Return the YAML document of an Exporter with one source and one sink.

    ``metrics`` is a MetricsQL selector, or the whole block. ``endpoint`` is a base URL; the path of
    OTLP metrics at its end is taken off. ``otlp_http`` is the rest of that block; ``blocks`` are
    others of the sink (``batch``, ``retry``, ``queue``, ``paused``). ``version`` is one of remote
    write, where the sink is of that kind: its path is that of Prometheus then.
    """
    wanted = {"metricsql": metrics} if isinstance(metrics, str) else dict(metrics)
    origin = endpoint.removesuffix("/v1/metrics")
    target = {"endpoint": origin, **(otlp_http or {})}
    kind = "otlp_http"
    if version:
        kind = "prometheusRemoteWrite"
        target |= {"endpoint": f"{origin}/api/v1/write", "protocolVersion": version}
    return exporter_of(
        name,
        [{"name": source, "metrics": wanted}],
        [{"name": sink, kind: target, **blocks}],
        namespace=namespace,
    )


def exporter_of(
    name: str, sources: Sequence[Block], sinks: Sequence[Block], *, namespace: str = ""
) -> str:
    """Return the YAML document of an Exporter with these sources and sinks."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return document(
        {
            "apiVersion": API_VERSION,
            "kind": "Exporter",
            "metadata": metadata,
            "spec": {"sources": list(sources), "sinks": list(sinks)},
        }
    )


def secret_yaml(name: str, data: Mapping[str, str]) -> str:
    """Return the YAML document of a Secret with ``stringData``."""
    return document(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": dict(data),
        }
    )


def document(content: Block) -> str:
    """Return a YAML document, whose start is marked, so that texts can be joined."""
    text: str = yaml.dump(
        content, Dumper=_DUMPER, sort_keys=False, explicit_start=True, allow_unicode=True
    )
    return text
