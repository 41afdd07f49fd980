"""Profiles fill in what an endpoint needs, and warn before it refuses data."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli.check import check
from relay.config.exporter.backend_profiles import PROFILE_NAMES, PROFILES, profile_of_host
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.records.outputs import outputs_of
from relay.config.exporter.types import Exporter, ExporterPath, OtlpHttp
from tests.kit.exporter_yaml import exporter_of

MANIFEST = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: x}}
spec:
  sources:
    - {{name: all, metrics: {{metricsql: ""}}}}
    - {{name: lines, logs: {{}}}}
    - {{name: spans, traces: {{}}}}
  sinks:
    - name: s
      otlp_http:
        endpoint: {endpoint}
{settings}
"""


def load_with(
    tmp_path: Path, *settings: str, endpoint: str = "https://otlp.example.com"
) -> Exporter:
    """An Exporter whose one sink has these lines of settings."""
    lines = "\n".join(f"        {line}" for line in settings)
    file = tmp_path / "exporter.yaml"
    file.write_text(MANIFEST.format(endpoint=endpoint, settings=lines))
    result = load_exporters([ExporterPath(file)])
    assert result.faults == ()
    return result.exporters[0]


def by_signal(exporter: Exporter) -> dict[str, OtlpHttp]:
    """The endpoint of each signal."""
    return {one.endpoint.signal: one.endpoint for one in outputs_of(exporter)}  # type: ignore[union-attr,misc]


def otlp(exporter: Exporter) -> OtlpHttp:
    return exporter.sinks[0].endpoint


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_a_profile_sets_what_is_left_out(tmp_path: Path, name: str) -> None:
    settings = otlp(load_with(tmp_path, f"profile: {name}"))
    profile = PROFILES[name]  # type: ignore[index]
    assert settings.temporality == profile.temporality
    assert settings.compression == profile.compression
    assert settings.request_bytes_max == profile.request_bytes_max
    assert settings.unsupported_kinds == profile.unsupported
    assert profile.compression in profile.accepted_compressions
    assert settings.keeps_target_labels == (name == "victoriametrics")


@pytest.mark.parametrize(
    ("name", "temporality", "bytes_max"),
    [
        ("datadog", "delta", 500_000),
        ("dynatrace", "delta", 4_000_000),
        ("newrelic", "delta", 1_000_000),
        ("prometheus", "cumulative", 32 << 20),
        ("generic", "cumulative", None),
    ],
)
def test_limits_are_those_of_the_vendors(
    tmp_path: Path, name: str, temporality: str, bytes_max: int | None
) -> None:
    settings = otlp(load_with(tmp_path, f"profile: {name}"))
    assert (settings.temporality, settings.request_bytes_max) == (temporality, bytes_max)


def test_what_the_author_writes_wins_with_a_warning(tmp_path: Path) -> None:
    exporter = load_with(
        tmp_path,
        "profile: datadog",
        "temporality: cumulative",
        "compression: zstd",
        "maxRequestBytes: 1MiB",
    )
    settings = otlp(exporter)
    assert (settings.temporality, settings.compression) == ("cumulative", "zstd")
    temporality, compression, size = (one.text for one in exporter.warnings)
    assert "temporality: cumulative: Datadog refuses cumulative sums" in temporality
    assert "compression: zstd is not accepted by datadog: use gzip or none" in compression
    assert "maxRequestBytes: datadog refuses requests over 500000B" in size


def test_summaries_to_dynatrace_are_warned_of(tmp_path: Path) -> None:
    (warning,) = load_with(tmp_path, "profile: dynatrace").warnings
    assert "takes no summaries" in warning.message


@pytest.mark.parametrize("name", ["generic", "mimir", "grafana-cloud", "datadog"])
def test_a_fitting_profile_warns_of_nothing(tmp_path: Path, name: str) -> None:
    assert load_with(tmp_path, f"profile: {name}").warnings == ()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("otlp.datadoghq.com", "datadog"),
        ("otlp.us5.datadoghq.com", "datadog"),
        ("abc12345.live.dynatrace.com", "dynatrace"),
        ("otlp.eu01.nr-data.net", "newrelic"),
        ("otlp-gateway-prod-eu-west-0.grafana.net", "grafana-cloud"),
        ("collector.example.com", None),
    ],
)
def test_hosts_give_themselves_away(host: str, name: str | None) -> None:
    assert profile_of_host(f"https://{host}/v1/metrics") == name


def test_a_known_host_without_its_profile_is_warned_of(tmp_path: Path) -> None:
    (warning,) = load_with(tmp_path, endpoint="https://otlp.datadoghq.com").warnings
    assert "write profile: datadog" in warning.message
    assert load_with(tmp_path, endpoint="https://otlp-gateway-x.grafana.net/otlp").warnings == ()


def test_check_shows_what_would_be_lost(tmp_path: Path) -> None:
    load_with(tmp_path, "profile: dynatrace", "maxRequestBytes: 8MiB")
    result = check([tmp_path])
    assert not result.faults
    warnings = [line for line in result.lines if line.startswith("warning")]
    assert any("takes no summaries" in line for line in warnings)
    assert any("refuses requests over 4000000B" in line for line in warnings)


def test_promoted_labels(tmp_path: Path) -> None:
    settings = otlp(load_with(tmp_path, "promoteLabels: [resource_name, resource_namespace]"))
    assert settings.promoted_labels == {"resource_name", "resource_namespace"}


@pytest.mark.parametrize(
    "endpoint",
    ["http://vm.example.com:8428/opentelemetry", "https://vm.example.com/insert/42/opentelemetry"],
)
def test_the_path_of_victoriametrics_gives_it_away(tmp_path: Path, endpoint: str) -> None:
    (warning,) = load_with(tmp_path, endpoint=endpoint).warnings
    assert "has the path of victoriametrics; write profile: victoriametrics" in warning.message
    assert load_with(tmp_path, "profile: victoriametrics", endpoint=endpoint).warnings == ()


@pytest.mark.parametrize(
    ("settings", "bytes_max"),
    [
        (["profile: datadog"], (500_000, 5_300_000, 15 << 20)),
        (["profile: dynatrace"], (4_000_000, 2_000_000, 8_000_000)),
        (["profile: newrelic"], (1_000_000, 1_000_000, 1_000_000)),
        (["profile: grafana-cloud"], (None, None, None)),
        (["profile: datadog", "temporality: delta", "maxRequestBytes: 400KiB"], (409_600,) * 3),
    ],
)
def test_each_signal_has_the_size_that_its_path_takes(
    tmp_path: Path, settings: list[str], bytes_max: tuple[int | None, ...]
) -> None:
    found = by_signal(load_with(tmp_path, *settings))
    assert [found[one].request_bytes_max for one in ("metrics", "logs", "traces")] == [*bytes_max]


def test_each_signal_goes_to_its_path_or_to_a_url_of_its_own(tmp_path: Path) -> None:
    found = by_signal(load_with(tmp_path, endpoint="https://otlp.example.com/base/"))
    assert {one: own.url for one, own in found.items()} == {
        one: f"https://otlp.example.com/base/v1/{one}" for one in ("metrics", "logs", "traces")
    }
    own = "logsEndpoint: HTTPS://logs.example.com/in/v1"
    found = by_signal(load_with(tmp_path, own, endpoint="https://otlp.example.com"))
    assert {one: own.url for one, own in found.items()} == {
        "metrics": "https://otlp.example.com/v1/metrics",
        "logs": "https://logs.example.com/in/v1",
        "traces": "https://otlp.example.com/v1/traces",
    }
    found = by_signal(load_with(tmp_path, "metricsEndpoint: https://m.example.com/w"))
    assert (found["metrics"].url, found["logs"].url) == (
        "https://m.example.com/w",
        "https://otlp.example.com/v1/logs",
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("tracesEndpoint: https://t.example.com", "has no path, and nothing is appended"),
        ("logsEndpoint: http://l.example.com/v1/logs", "credentials travel unencrypted"),
    ],
)
def test_a_url_of_a_signal_is_warned_about_at_its_field(
    tmp_path: Path, setting: str, said: str
) -> None:
    secret = "authentication: {type: bearerToken, secretRef: {name: t}}"
    settings = f"        {setting}\n        {secret}"
    file = tmp_path / "exporter.yaml"
    file.write_text(
        MANIFEST.format(endpoint="https://otlp.example.com", settings=settings)
        + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: t}\nstringData: {token: x}\n"
    )
    result = load_exporters([ExporterPath(file)])
    assert result.faults == ()
    (warning,) = (one for one in result.exporters[0].warnings if said in one.text)
    assert setting.partition(":")[0] in warning.path


LOGS_ALONE = [{"name": "lines", "logs": {}}, {"name": "numbers", "metrics": {"metricsql": ""}}]


@pytest.mark.parametrize(
    ("http", "said"),
    [
        ({"endpoint": "http://logs.example.com:9428/insert/opentelemetry"}, ""),
        ({"endpoint": "https://a.live.dynatrace.com/api/v2/otlp"}, "which will refuse data"),
        ({"endpoint": "https://otlp.example.com", "profile": "dynatrace"}, ""),
        (
            {"endpoint": "https://o.example.com", "profile": "mimir", "temporality": "delta"},
            "",
        ),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_sink_without_metrics_is_not_warned_of_what_happens_to_them(
    tmp_path: Path, http: dict[str, str], said: str, is_named: bool
) -> None:
    sources = LOGS_ALONE if is_named else LOGS_ALONE[:1]
    sink = {"name": "s", "otlp_http": http, **({"sources": ["lines"]} if is_named else {})}
    file = tmp_path / "e.yaml"
    file.write_text(exporter_of("x", sources, [sink]))
    (exporter,) = load_exporters([ExporterPath(file)]).exporters
    warnings = [one.message for one in exporter.warnings]
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)
    file.write_text(exporter_of("x", LOGS_ALONE, [{"name": "s", "otlp_http": http}]))
    (exporter,) = load_exporters([ExporterPath(file)]).exporters
    assert exporter.warnings
