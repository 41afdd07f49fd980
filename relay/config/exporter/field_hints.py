"""Field names that are often written for others, and where misplaced fields belong."""

from __future__ import annotations

MISNOMERS = {
    **dict.fromkeys(("url", "uri", "address", "host"), "endpoint"),
    **dict.fromkeys(("auth", "authorization"), "authentication"),
    **dict.fromkeys(("query", "expr", "promql", "match", "selector"), "metricsql"),
    **dict.fromkeys(("otlp", "otlphttp", "otlpHTTP", "http"), "otlp_http"),
    **dict.fromkeys(("secret", "tokenSecretRef", "secretName"), "secretRef"),
    **dict.fromkeys(("attempts", "retries", "maxRetries"), "maxAttempts"),
    **dict.fromkeys(("batchSize", "size"), "maxSize"),
}
"""What other tools call a field."""

MAPPINGS = {
    "authentication": "{type: …}",
    "batch": "{maxSize: …}",
    "exporters": "{path: …}",
    "log": "{level: …}",
    "manifests": "{path: …}",
    "memory": "{maxBytes: …}",
    "metrics": "{metricsql: …}",
    "queue": "{maxBytes: …}",
    "secretRef": "{name: …, key: …}",
    "storage": "{path: …}",
    "watch": "{enabled: …}",
}
"""How a mapping looks, or each of a list of them, where people write a word in its place."""
_OTLP_HTTP_FIELDS = (
    "authentication",
    "compression",
    "concurrency",
    "endpoint",
    "headers",
    "maxRequestBytes",
    "profile",
    "promoteLabels",
    "temporality",
    "timeout",
    "tls",
)

FIELD_HINTS = {
    ("secretRef", "namespace"): (
        "a Secret is always one of the Exporter's own namespace: leave this out"
    ),
    ("metrics", "labelSelectors"): "it belongs into an entry of resourceSelectors",
    ("metrics", "kinds"): "it belongs into an entry of resourceSelectors",
    ("otlp_http", "batch"): "it belongs beside otlp_http, not below it",
    ("otlp_http", "retry"): "it belongs beside otlp_http, not below it",
    ("otlp_http", "queue"): "it belongs beside otlp_http, not below it",
    ("otlp_http", "sources"): "it belongs beside otlp_http, not below it",
    ("otlp_http", "secretRef"): "it belongs below authentication",
    **dict.fromkeys(
        (("authentication", field) for field in _OTLP_HTTP_FIELDS if field != "authentication"),
        "it belongs beside authentication, not below it",
    ),
    **dict.fromkeys(
        (("sinks", field) for field in _OTLP_HTTP_FIELDS), "it belongs below otlp_http"
    ),
    ("sources", "metricsql"): "it belongs below metrics",
    ("sources", "resourceSelectors"): "it belongs below metrics",
}
"""(Where it stands, unknown field): where it belongs."""

CREDENTIALS = frozenset(("token", "password", "username", "apiKey", "bearerToken", "basicAuth"))
"""Fields that would hold a secret in the open."""
