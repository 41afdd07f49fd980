"""What a mistake must not do: hide others, run, or stop what runs already."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.exporter.endpoints import endpoint_problem, endpoint_warnings, metrics_url
from relay.config.exporter.load_result import LoadResult, keep_last_good
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath

GOOD = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: example}
spec:
  sources:
    - name: app
      metrics: {metricsql: up}
  sinks:
    - name: collector
      otlp_http:
        endpoint: https://otlp.example.com
        compression: gzip
"""


def load_text(tmp_path: Path, text: str) -> LoadResult:
    file = tmp_path / "f.yaml"
    file.write_text(text)
    return load_exporters([ExporterPath(file)])


@pytest.mark.parametrize(
    ("right", "wrong", "path"),
    [
        ("kind: Exporter", "kind: exporter", "kind"),
        ("kind: Exporter", "kind: Exportr", "kind"),
        ("kind: Exporter", "kind: ConfigMap", "kind"),
        ("/v1alpha1", "/v1", "apiVersion"),
        ("spec:", "Spec:", "Spec"),
        ("sources:", "source:", "spec.source"),
        ("metrics:", "Metrics:", "spec.sources[0].Metrics"),
        ("metricsql: up", "query: up", "spec.sources[0].metrics.query"),
        ("otlp_http:", "otlpHttp:", "spec.sinks[0].otlpHttp"),
        ("endpoint:", "url:", "spec.sinks[0].otlp_http.url"),
    ],
)
def test_a_misspelt_word_is_one_fault_and_hides_no_other(
    tmp_path: Path, right: str, wrong: str, path: str
) -> None:
    assert right in GOOD
    (fault,) = load_text(tmp_path, GOOD.replace(right, wrong)).faults
    assert fault.path == path
    text = GOOD.replace(right, wrong).replace("gzip", "gz").replace("name: app", "name: App")
    paths = [fault.path for fault in load_text(tmp_path, text).faults]
    assert len(paths) == 3
    assert path in paths
    assert any(found.endswith(".compression") for found in paths)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("metricsql: up}", "metricsql: up}\n    - name: 'a'b"),
        ("name: collector", "name: 'a'b"),
        ("    - name: collector", "\t- name: collector"),
        ("metrics: {metricsql: up}", 'metrics:\n        metricsql: "{job="x"}"'),
    ],
)
def test_what_was_taken_out_to_read_on_never_runs_and_stops_nothing(
    tmp_path: Path, right: str, wrong: str
) -> None:
    running = load_text(tmp_path, GOOD).exporters
    assert len(running) == 1
    broken = load_text(tmp_path, GOOD.replace(right, wrong))
    assert broken.exporters == ()
    assert "not valid YAML" in broken.faults[0].message
    assert keep_last_good(running, broken).exporters == running


def test_a_list_of_which_a_line_is_broken_does_not_run(tmp_path: Path) -> None:
    item = "".join(f"    {line}\n" for line in GOOD.splitlines()).replace("    api", "  - api", 1)
    text = f"kind: List\nitems:\n{item}"
    assert len(load_text(tmp_path, text).exporters) == 1
    broken = load_text(tmp_path, text.replace("name: collector", "name: 'a'b"))
    assert broken.exporters == ()
    assert broken.faulty_files


def test_a_faulty_exporter_has_warnings_and_its_secrets_looked_for(tmp_path: Path) -> None:
    text = GOOD.replace(
        "https://otlp.example.com\n",
        "https://otlp.example.com/v1/metrics\n        authentication:\n"
        "          type: bearerToken\n          secretRef: {name: missing}\n",
    ).replace("gzip", "gz")
    result = load_text(tmp_path, text)
    assert [fault.path.rpartition(".")[2] for fault in result.faults] == [
        "secretRef",
        "compression",
    ]
    (warning,) = result.warnings
    assert warning.path == "spec.sinks[0].otlp_http.endpoint"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://a.example/otlp", "https://a.example/otlp/v1/metrics"),
        ("https://a.example/otlp/", "https://a.example/otlp/v1/metrics"),
        ("HTTPS://a.example/v1/metrics", "https://a.example/v1/metrics"),
        ("https://a.example/otlp/v1/metrics/", "https://a.example/otlp/v1/metrics"),
        ("https://a.example", "https://a.example/v1/metrics"),
    ],
)
def test_the_path_of_metrics_is_appended_once(endpoint: str, url: str) -> None:
    assert endpoint_problem(endpoint) == ""
    assert metrics_url(endpoint) == url
    assert bool(list(endpoint_warnings(endpoint))) == ("v1/metrics" in endpoint)


@pytest.mark.parametrize(
    ("endpoint", "offer"),
    [
        ("collector:4318", "http://collector:4318"),
        ("collector:443", "https://collector:443"),
        ("otlp.example.com/otlp", "https://otlp.example.com/otlp"),
        ("grpc://collector:4317", "http://collector:4318"),
        ("[::1]:4318", "http://[::1]:4318"),
    ],
)
def test_an_endpoint_without_a_scheme_is_offered_one(endpoint: str, offer: str) -> None:
    assert endpoint_problem(endpoint).endswith(f"write {offer}")
    assert endpoint_problem(offer) == ""


@pytest.mark.parametrize(
    "endpoint", ["me:hunter2@collector:4318", "collector:hunter2", "a?k=hunter2"]
)
def test_what_may_hold_a_password_is_not_offered(endpoint: str) -> None:
    assert "hunter2" not in endpoint_problem(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://otlp.example.com",
        "https://otlp-gateway-prod-eu-west-0.grafana.net/otlp",
        "https://otlp.datadoghq.com",
        "http://victoria:8428/opentelemetry",
        "http://prometheus:9090/api/v1/otlp",
        "https://otlp.nr-data.net:4318",
    ],
)
def test_good_endpoints_are_not_warned_of(endpoint: str) -> None:
    assert endpoint_problem(endpoint) == ""
    assert list(endpoint_warnings(endpoint)) == []
