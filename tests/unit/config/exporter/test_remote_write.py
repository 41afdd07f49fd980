"""A sink's prometheusRemoteWrite: what the model holds, what profiles fill in, and warnings."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.exporter.endpoints import (
    remote_write_problem,
    remote_write_url,
    remote_write_warnings,
)
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.remote_write import (
    REMOTE_WRITE_PROFILE_NAMES,
    REMOTE_WRITE_PROFILES,
)
from relay.config.exporter.types import (
    Authentication,
    ClientTls,
    Exporter,
    ExporterPath,
    PrometheusRemoteWrite,
    SecretRef,
)
from tests.kit.exporter_yaml import exporter_of
from tests.kit.paths import ROOT

GOOD = ROOT / "tests/data/exporters/good"


def load(path: Path, secrets: Path | None = None) -> Exporter:
    result = load_exporters([ExporterPath(path)], secrets_root=secrets)
    assert result.faults == ()
    return result.exporters[0]


def with_settings(tmp_path: Path, *lines: str) -> Exporter:
    file = tmp_path / "exporter.yaml"
    text = (GOOD / "remote-write-minimal.yaml").read_text()
    file.write_text(text + "".join(f"        {line}\n" for line in lines))
    return load(file)


def test_what_is_left_out_has_defaults() -> None:
    (sink,) = load(GOOD / "remote-write-minimal.yaml").sinks
    assert sink.endpoint == PrometheusRemoteWrite("https://prometheus.example.com/api/v1/write")
    assert sink.endpoint.compression == "snappy"
    assert sink.endpoint.version == "1.0"
    assert sink.endpoint.sends_metadata


def test_every_field_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "default/grafana-api-key/token"
    secret.parent.mkdir(parents=True)
    secret.write_text("fake-token")
    exporter = load(GOOD / "remote-write-every-field.yaml", tmp_path)
    assert exporter.warnings == ()
    assert exporter.sinks[0].endpoint == PrometheusRemoteWrite(
        url="https://mimir.example.com/api/v1/push",
        authentication=Authentication("bearerToken", SecretRef("grafana-api-key", "token")),
        headers={"X-Scope-OrgID": "tenant-1", "User-Agent": "fleet/1"},
        timeout_s=30.0,
        tls=ClientTls(server_name="mimir.example.com"),
        request_bytes_max=8 << 20,
        concurrency=4,
        version="2.0",
        external_labels=(("cluster", "east"), ("replica", "a b")),
        sends_metadata=False,
        bad_request="partial",
    )


def test_external_labels_do_not_depend_on_their_order(tmp_path: Path) -> None:
    one = with_settings(tmp_path, "externalLabels: {b: x, a: y}")
    assert one == with_settings(tmp_path, "externalLabels: {a: y, b: x}")


@pytest.mark.parametrize("name", REMOTE_WRITE_PROFILE_NAMES)
def test_a_profile_sets_what_is_left_out(tmp_path: Path, name: str) -> None:
    endpoint = with_settings(tmp_path, f"profile: {name}").sinks[0].endpoint
    profile = REMOTE_WRITE_PROFILES[name]  # type: ignore[index]
    assert isinstance(endpoint, PrometheusRemoteWrite)
    assert endpoint.bad_request == profile.bad_request
    assert endpoint.request_bytes_max == profile.request_bytes_max
    smaller = with_settings(tmp_path, f"profile: {name}", "maxRequestBytes: 64KiB")
    assert smaller.sinks[0].endpoint.request_bytes_max == 64 << 10
    assert smaller.warnings == ()


@pytest.mark.parametrize(
    "url",
    [
        "https://prometheus.example.com/api/v1/write",
        "http://vm.example.com:8428/api/v1/write",
        "http://vminsert.example.com:8480/insert/0/prometheus/api/v1/write",
        "https://mimir.example.com/api/v1/push",
        "https://prometheus-prod-01-eu-west-0.grafana.net/api/prom/push",
        "http://thanos.example.com:19291/api/v1/receive",
        "https://aps.example.com/workspaces/ws-1/api/v1/remote_write",
    ],
)
def test_urls_of_well_known_receivers_are_fine(url: str) -> None:
    assert remote_write_problem(url) == ""
    assert list(remote_write_warnings(url)) == []
    assert remote_write_url(url) == url


def test_nothing_is_appended_and_only_the_scheme_is_folded() -> None:
    assert remote_write_url("HTTPS://Host/api/v1/Write/") == "https://Host/api/v1/Write/"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://mimir.example.com/otlp/", "/otlp is where OTLP goes"),
        ("http://h:9090/api/v1/otlp", "/api/v1/otlp is where OTLP goes"),
        ("http://h:8428/opentelemetry", "http://<host>:8428/api/v1/write"),
        ("http://h:4318/v1/metrics", "/v1/metrics is where OTLP goes"),
        ("https://otlp.datadoghq.eu/v1", "takes OTLP and no remote write"),
        ("http://h:8428/api/v1/import/prometheus", "takes the text format"),
        ("https://h/", "has no path, and nothing is appended"),
    ],
)
def test_urls_of_something_else_have_one_warning(url: str, says: str) -> None:
    (warning,) = remote_write_warnings(url)
    assert says in warning


def test_a_sink_that_gets_nothing_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    logs, metrics = {"name": "l", "logs": {}}, {"name": "m", "metrics": {"metricsql": ""}}
    sink = {"name": "s", "prometheusRemoteWrite": {"endpoint": "https://p.example.com/write"}}
    file.write_text(exporter_of("x", [logs], [sink]))
    (warning,) = load(file).warnings
    assert "the exporter has no source of metrics: nothing is sent" in warning.message
    file.write_text(exporter_of("x", [logs, metrics], [sink]))
    assert load(file).warnings == ()
