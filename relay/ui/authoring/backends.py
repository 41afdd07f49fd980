"""The table of backends: what each takes, asks for and bills. A new one is a row. Pure.

Endpoints and headers are those of the vendors' pages for OTLP over HTTP.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from relay.ui.views.quantities import count


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend.

    ``endpoint`` is filled in, ``regions`` are its other values, which the vendor calls
    ``regions_word``; ``sink`` is what goes with it; ``find`` says where a customer finds what is
    asked for. ``hosts`` are patterns of host names. ``bills`` may have ``{series}`` and
    ``{points}``.
    """

    key: str
    name: str
    short: str
    kind: Literal["otlp_http", "prometheusRemoteWrite"]
    endpoint: str
    authentication: str
    find: str
    header: str = ""
    profile: str = ""
    regions: tuple[tuple[str, str], ...] = ()
    regions_word: str = "Region"
    headers: tuple[tuple[str, str], ...] = ()
    credential_labels: dict[str, str] = field(default_factory=dict)
    bills: str = ""
    hosts: tuple[str, ...] = ()
    is_card: bool = True
    """False for one that is only recognised."""

    def sink(self, name: str) -> dict[str, Any]:
        """Return a sink of this backend, without its Secret's name where it needs none."""
        endpoint: dict[str, Any] = {"endpoint": self.endpoint}
        if self.profile:
            endpoint["profile"] = self.profile
        if self.authentication != "none":
            endpoint["authentication"] = {
                "type": self.authentication,
                "secretRef": {"name": name},
            }
            if self.header:
                endpoint["authentication"]["header"] = self.header
        if self.headers:
            endpoint["headers"] = dict(self.headers)
        return {"name": name, self.kind: deepcopy(endpoint)}

    def bill(self, series: int, points_per_minute: float | None) -> str:
        """Return what it bills, with these figures; None: not measured."""
        points = "measure them"
        if points_per_minute is not None:
            points = f"about {count(points_per_minute)} a minute"
        return self.bills.format(series=f"about {count(series)}", points=points)


_GRAFANA_BILLS: Final = (
    "Grafana Cloud bills active series: {series}; more, where a series has more than one data "
    "point a minute."
)
BACKENDS: Final = (
    Backend(
        key="grafana-cloud",
        name="Grafana Cloud",
        short="OTLP gateway of your stack",
        kind="otlp_http",
        endpoint="https://otlp-gateway-ZONE.grafana.net/otlp",
        authentication="basicAuth",
        profile="grafana-cloud",
        find="In the Grafana Cloud portal open your stack, then OpenTelemetry, Configure: it shows "
        "the endpoint, the instance ID and makes a token.",
        credential_labels={"username": "Instance ID", "password": "Token"},
        bills=_GRAFANA_BILLS,
        hosts=("otlp-gateway-*.grafana.net",),
    ),
    Backend(
        key="grafana-cloud-metrics",
        name="Grafana Cloud, remote write",
        short="",
        kind="prometheusRemoteWrite",
        endpoint="https://prometheus-ZONE.grafana.net/api/prom/push",
        authentication="basicAuth",
        profile="grafana-cloud-metrics",
        find="In the Grafana Cloud portal open your stack, then Prometheus, Send Metrics.",
        credential_labels={"username": "Instance ID", "password": "Token"},
        bills=_GRAFANA_BILLS,
        hosts=("prometheus-*.grafana.net",),
        is_card=False,
    ),
    Backend(
        key="datadog",
        name="Datadog",
        short="OTLP intake of your site",
        kind="otlp_http",
        endpoint="https://otlp.datadoghq.com",
        authentication="apiKey",
        header="dd-api-key",
        profile="datadog",
        regions=(
            ("US1", "https://otlp.datadoghq.com"),
            ("US3", "https://otlp.us3.datadoghq.com"),
            ("US5", "https://otlp.us5.datadoghq.com"),
            ("EU1", "https://otlp.datadoghq.eu"),
            ("AP1", "https://otlp.ap1.datadoghq.com"),
            ("US1-FED", "https://otlp.ddog-gov.com"),
        ),
        regions_word="Site",
        find="The site is in the address of your Datadog page. Keys are in Organization Settings, "
        "API Keys.",
        credential_labels={"apiKey": "API key"},
        bills="Datadog bills custom metrics, each series as one: {series}.",
        hosts=("otlp.*datadoghq.com", "otlp.*datadoghq.eu", "otlp.*ddog-gov.com"),
    ),
    Backend(
        key="dynatrace",
        name="Dynatrace",
        short="OTLP API of your environment",
        kind="otlp_http",
        endpoint="https://ENVIRONMENT.live.dynatrace.com/api/v2/otlp",
        authentication="apiKey",
        header="Authorization",
        profile="dynatrace",
        find="ENVIRONMENT is in the address of your Dynatrace page. In Access Tokens make one with "
        "the scope metrics.ingest, and write it as: Api-Token dt0c01…",
        credential_labels={"apiKey": "Api-Token and the token"},
        bills="Dynatrace bills metric data points: {points}.",
        hosts=("*.live.dynatrace.com",),
    ),
    Backend(
        key="newrelic",
        name="New Relic",
        short="OTLP endpoint of your region",
        kind="otlp_http",
        endpoint="https://otlp.nr-data.net",
        authentication="apiKey",
        header="api-key",
        profile="newrelic",
        regions=(("US", "https://otlp.nr-data.net"), ("EU", "https://otlp.eu01.nr-data.net")),
        find="In New Relic open API keys and take an ingest key of type License.",
        credential_labels={"apiKey": "License key"},
        bills="New Relic bills the bytes that it stores.",
        hosts=("otlp.nr-data.net", "otlp.*.nr-data.net"),
    ),
    Backend(
        key="honeycomb",
        name="Honeycomb",
        short="OTLP endpoint of your region",
        kind="otlp_http",
        endpoint="https://api.honeycomb.io",
        authentication="apiKey",
        header="x-honeycomb-team",
        regions=(("US", "https://api.honeycomb.io"), ("EU", "https://api.eu1.honeycomb.io")),
        headers=(("x-honeycomb-dataset", "metrics"),),
        find="In Honeycomb open Environment settings, API Keys: an ingest key. Metrics go into the "
        "dataset that a header names.",
        credential_labels={"apiKey": "Ingest key"},
        bills="Honeycomb bills events: points of one resource and time are one.",
        hosts=("api.honeycomb.io", "api.eu1.honeycomb.io"),
    ),
    Backend(
        key="otlp",
        name="Any OTLP",
        short="A collector, or another backend",
        kind="otlp_http",
        endpoint="https://",
        authentication="bearerToken",
        find="The base address: /v1/metrics is appended.",
    ),
    Backend(
        key="remote-write",
        name="Prometheus",
        short="Remote write, as Mimir, Thanos or VictoriaMetrics take it",
        kind="prometheusRemoteWrite",
        endpoint="https://",
        authentication="basicAuth",
        find="The whole address that Prometheus' remote_write has.",
    ),
)
"""In the order of the cards."""


def backend_of(key: str) -> Backend | None:
    """Return a backend by its key, None for none."""
    return next((one for one in BACKENDS if one.key == key), None)


def backend_of_url(url: str) -> Backend | None:
    """Return the backend that an endpoint's host tells, None for any other."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    for one in BACKENDS:
        if any(fnmatchcase(host, pattern) for pattern in one.hosts):
            return one
    return None
