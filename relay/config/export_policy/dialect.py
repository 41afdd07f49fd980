"""The table of dialects: where each field of the model stands in an ExportPolicy.

A row lists every path of one field, the shipped word first; the paths mean the same, and only one
of them may be given. Limits are in ``relay/config/schema/export_policy.yaml``, by these paths;
defaults are here. ``target`` stands for the sink's target: ``target.prometheusRemoteWrite`` or
``target.openTelemetry``, or the same without ``target``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from relay.config.exporter.types import Batch, Place, RetrySettings

KIND: Final = "ExportPolicy"
API_VERSIONS: Final = ("telemetry.miloapis.com/v1alpha1", "telemetry.datumapis.com/v1alpha1")
BASIC_AUTH_TYPE: Final = "kubernetes.io/basic-auth"
"""Type of the Secret that holds a user name and a password."""

BATCH_DEFAULT: Final = Batch(timeout_s=5.0, points_max=500)
RETRY_DEFAULT: Final = RetrySettings(attempts_max=3, backoff_s=5.0)


class Row(msgspec.Struct, frozen=True):
    """One field of the model, and its paths below ``below``, which all mean the same."""

    field: str
    below: str
    paths: tuple[str, ...]

    def find(self, values: Mapping[str, Any]) -> tuple[Place, Any]:
        """Return path and value of the first that is given; the first path and None for none."""
        for path in self.paths:
            steps: Place = tuple(path.split("."))
            value: Any = values
            for step in steps:
                value = value.get(step) if isinstance(value, Mapping) else None
            if value is not None:
                return steps, value
        return tuple(self.paths[0].split(".")), None


ROWS: Final = (
    Row("selector", "source", ("metrics.metricsql",)),
    Row("selector.resources", "source", ("metrics.resourceSelectors",)),
    Row("remote_write", "sink", ("target.prometheusRemoteWrite", "prometheusRemoteWrite")),
    Row("otlp_http", "sink", ("target.openTelemetry", "openTelemetry")),
    Row("endpoint.url", "target", ("endpoint", "http.endpoint")),
    Row(
        "authentication.basic",
        "target",
        ("authentication.basicAuth.secretRef", "authentication.basic.secretRef"),
    ),
    Row(
        "authentication.bearer",
        "target",
        ("authentication.bearer.secretRef", "authentication.bearerToken.secretRef"),
    ),
    Row("batch", "sink", ("target.batch", "batch")),
    Row("batch.enabled", "batch", ("enabled",)),
    Row("batch.timeout_s", "batch", ("timeout",)),
    Row("batch.points_max", "batch", ("maxSize",)),
    Row("retry", "sink", ("target.retry", "retry")),
    Row("retry.enabled", "retry", ("enabled",)),
    Row("retry.attempts_max", "retry", ("maxAttempts",)),
    Row("retry.backoff_s", "retry", ("backoffDuration", "backoff")),
)
ROW: Final[dict[str, Row]] = {row.field: row for row in ROWS}

_WORDS: Final = (
    ("which type bearerToken writes", "which bearer writes"),
    (
        ": to send it as it stands, use type: apiKey with header: Authorization",
        ": a bearer token is kept alone in the Secret",
    ),
    ("otlp_http", "openTelemetry.http"),
    (", with profile: datadog", ""),
    (", with profile: newrelic", ""),
    (" an Exporter ", " an ExportPolicy "),
)
"""Words of messages about an Exporter, and those of an ExportPolicy in their place."""


def in_dialect(message: str, kind: str) -> str:
    """Return a message about a resource in the words of its kind."""
    if kind == KIND:
        for word, own in _WORDS:
            message = message.replace(word, own)
    return message
