"""ExportPolicies from files: their model, ids, Secrets, and sinks that are refused alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli.check import check
from relay.config.export_policy.conditions import policy_conditions, sink_conditions
from relay.config.exporter.load_result import LoadResult, keep_last_good
from relay.config.exporter.manifest_loader import Manifests, load_exporters
from relay.config.exporter.records.outputs import record_outputs
from relay.config.exporter.types import (
    Authentication,
    Batch,
    Exporter,
    ExporterPath,
    OtlpHttp,
    PrometheusRemoteWrite,
    RetrySettings,
    SecretRef,
    id_of,
)
from relay.runtime.errors import SecretError
from tests.kit.paths import ROOT

GOOD = ROOT / "tests/data/export_policies/good"
BASIC = "kubernetes.io/basic-auth"

SECRET = """\
---
apiVersion: v1
kind: Secret
metadata: {name: login}
type: kubernetes.io/basic-auth
stringData: {username: user, password: example}
"""
POLICY = """\
---
apiVersion: telemetry.miloapis.com/v1alpha1
kind: ExportPolicy
metadata: {name: example}
spec:
  sources: [{name: all}, {name: up, metrics: {metricsql: up}}]
  sinks:
    - name: first
      sources: [all]
      target:
        prometheusRemoteWrite:
          endpoint: https://prometheus.example.com/api/v1/write
          authentication: {basicAuth: {secretRef: {name: login}}}
    - name: second
      sources: [up]
      target: {openTelemetry: {http: {endpoint: https://otlp.example.com/otlp}}}
"""
EXPORTER = """\
---
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: example}
spec:
  sources: [{name: all, metrics: {metricsql: ""}}]
  sinks: [{name: first, otlp_http: {endpoint: https://otlp.example.com}}]
"""


def load_text(tmp_path: Path, text: str, *, secrets: Path | None = None) -> LoadResult:
    file = tmp_path / "f.yaml"
    file.write_text(text)
    return load_exporters([ExporterPath(file)], secrets_root=secrets)


def load_one(file: str) -> Exporter:
    (exporter,) = load_exporters([ExporterPath(GOOD / f"{file}.yaml")]).exporters
    return exporter


def names_of(exporter: Exporter) -> list[str]:
    return [sink.name for sink in exporter.sinks]


def test_the_portals_policy_is_this_model() -> None:
    policy = load_one("portal-grafana")
    assert policy.id == "default/ExportPolicy/grafana-export-policy"
    (source,) = policy.sources
    assert (source.name, source.query, source.selector.groups) == ("datum-metrics", "{}", ())  # type: ignore[union-attr]
    (sink,) = policy.sinks
    assert sink.endpoint == PrometheusRemoteWrite(
        "https://prometheus-prod-56-prod-us-east-2.grafana.net/api/prom/push",
        Authentication("basicAuth", SecretRef("grafana-prometheus-secret", type=BASIC)),
    )
    assert sink.batch == Batch(timeout_s=5.0, points_max=100)
    assert sink.retry == RetrySettings(attempts_max=3, backoff_s=5.0)


def test_the_defaults_are_those_of_the_platform() -> None:
    (sink,) = load_one("shipped-defaults").sinks
    assert (sink.batch.points_max, sink.batch.timeout_s) == (500, 5.0)
    assert (sink.retry.attempts_max, sink.retry.backoff_s) == (3, 5.0)


def test_otlp_is_sent_to_the_base_endpoint() -> None:
    (sink,) = load_one("proposed-opentelemetry-bearer").sinks
    assert sink.endpoint == OtlpHttp(
        "https://collector.example.com/otlp/v1/metrics",
        Authentication("bearerToken", SecretRef("collector-credentials")),
    )


def test_an_object_of_the_server_has_its_uid_and_time_of_creation() -> None:
    policy = load_one("shipped-with-status")
    assert policy.uid == "6f1c2d1e-5d0a-4d0e-9a53-1f7c0f0e4b1a"
    assert policy.created_at == 1_768_209_243.0


@pytest.mark.parametrize("text", ["yesterday", "2026-01-12", "2026-01-12T09:14:03"])
def test_a_time_of_creation_that_is_none_is_left_out(tmp_path: Path, text: str) -> None:
    named = f'metadata: {{name: example, creationTimestamp: "{text}"}}'
    document = POLICY.replace("metadata: {name: example}", named)
    (policy,) = load_text(tmp_path, SECRET + document).exporters
    assert policy.created_at is None


def test_an_exporter_and_a_policy_of_one_name_are_two_objects(tmp_path: Path) -> None:
    result = load_text(tmp_path, SECRET + EXPORTER + POLICY)
    assert result.faults == ()
    assert [one.id for one in result.exporters] == [
        "default/example",
        "default/ExportPolicy/example",
    ]


def test_ids_of_exporters_are_as_ever_and_no_policy_can_have_one() -> None:
    assert id_of("Exporter", "", "default", "a") == "default/a"
    assert id_of("Exporter", "acme", "default", "a") == "acme/default/a"
    assert id_of("ExportPolicy", "", "default", "a") == "default/ExportPolicy/a"
    assert id_of("ExportPolicy", "acme", "default", "a") == "acme/default/ExportPolicy/a"


def test_policies_of_both_groups_share_their_names(tmp_path: Path) -> None:
    other = POLICY.replace("telemetry.miloapis.com", "telemetry.datumapis.com")
    result = load_text(tmp_path, SECRET + POLICY + other)
    (fault,) = result.faults
    assert fault.path == "metadata.name"
    assert '"example" is already taken by' in fault.message
    assert len(result.exporters) == 1


def test_logs_and_traces_go_to_sinks_of_otlp() -> None:
    policy = load_one("logs-and-traces")
    assert [source.name for source in policy.sources] == ["gateway-metrics"]
    assert [(one.name, one.signal) for one in policy.record_sources] == [
        ("gateway-logs", "logs"),
        ("gateway-traces", "traces"),
    ]
    assert policy.record_sources[0].selection.resources is not None
    assert policy.record_sources[0].selection.categories == ("*",)
    assert [sink.sources for sink in policy.sinks] == [
        ("gateway-metrics",),
        ("gateway-logs", "gateway-traces"),
    ]
    assert [output.name for output in record_outputs(policy)] == [
        "collector/logs",
        "collector/traces",
    ]
    assert [one.type for one in policy_conditions(policy)] == ["Ready"]
    assert policy.not_carried == ()


def test_logs_and_metrics_may_stand_in_one_source(tmp_path: Path) -> None:
    text = POLICY.replace("{name: all}", "{name: all, metrics: {}, logs: {}}")
    (policy,) = load_text(tmp_path, SECRET + text).exporters
    assert [source.name for source in policy.sources] == ["all", "up"]
    assert [source.name for source in policy.record_sources] == ["all"]
    # Its only sink is one of remote write.
    assert policy.not_carried == (("all", "logs"),)
    (_, condition) = policy_conditions(policy)
    assert (condition.type, condition.reason) == ("SignalsCarried", "SignalsNotCarried")
    assert condition.message == "source all asks for logs: no sink with openTelemetry sends them"


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("sources: [all]", "sources: [none]", "InvalidSources"),
        ("{name: login}", "{name: logout}", "InvalidAuthentication"),
        ("basicAuth:", "apiKey:", "InvalidAuthentication"),
        ("endpoint: https://prometheus", "endpoint: ftp://prometheus", "InvalidConfiguration"),
        ("      sources: [all]\n", "", "InvalidSources"),
        ("    - name: first\n", "    - name: first\n      queue: {}\n", "InvalidConfiguration"),
    ],
)
def test_a_fault_of_one_sink_costs_no_other(
    tmp_path: Path, right: str, wrong: str, reason: str
) -> None:
    assert right in POLICY
    result = load_text(tmp_path, SECRET + POLICY.replace(right, wrong))
    (fault,) = result.faults
    assert fault.path.startswith("spec.sinks[0].")
    (policy,) = result.exporters
    assert names_of(policy) == ["second"]
    (refused,) = policy.refused
    assert (refused.name, refused.reason, refused.message) == ("first", reason, fault.text)
    (ready,) = policy_conditions(policy)
    assert (ready.status, ready.reason) == ("False", "SinksNotAccepted")
    assert ready.message == "1/2 sinks are accepted"
    assert [(name, one.status, one.reason) for name, one in sink_conditions(policy)] == [
        ("second", "True", "SinkConfigured"),
        ("first", "False", reason),
    ]
    assert result.faulty == frozenset()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("name: second", "name: first"),
        ("name: first", "name: First"),
        ("{name: up,", "{name: all,"),
        ("metricsql: up", "metricsql: 'rate(up)'"),
        ("metadata: {name: example}", "metadata: {name: Example}"),
        ("/v1alpha1\nkind: ExportPolicy", "/v1\nkind: ExportPolicy"),
    ],
)
def test_any_other_fault_costs_the_policy(tmp_path: Path, right: str, wrong: str) -> None:
    assert right in POLICY
    result = load_text(tmp_path, SECRET + POLICY.replace(right, wrong))
    assert result.faults
    assert result.exporters == ()


def test_all_faults_of_a_policy_are_told_at_once(tmp_path: Path) -> None:
    text = POLICY.replace("[all]", "[none]").replace("login", "logout")
    text = text.replace("https://otlp", "ftp://otlp")
    result = load_text(tmp_path, SECRET + text)
    assert [fault.path for fault in result.faults] == [
        "spec.sinks[0].sources[0]",
        "spec.sinks[0].target.prometheusRemoteWrite.authentication.basicAuth.secretRef",
        "spec.sinks[1].target.openTelemetry.http.endpoint",
    ]
    (policy,) = result.exporters
    assert policy.sinks == ()
    assert [one.name for one in policy.refused] == ["first", "second"]


def test_a_refused_sink_runs_on_in_its_last_good_version(tmp_path: Path) -> None:
    running = load_text(tmp_path, SECRET + POLICY).exporters
    text = POLICY.replace("sources: [all]", "sources: [al]").replace(
        "https://otlp.example.com", "https://other.example.com"
    )
    kept = keep_last_good(running, load_text(tmp_path, SECRET + text)).exporters
    (policy,) = kept
    assert names_of(policy) == ["second", "first"]
    assert policy.sinks[1] == running[0].sinks[0]
    assert policy.sinks[0].endpoint.url == "https://other.example.com/otlp/v1/metrics"
    (_, (name, condition)) = sink_conditions(policy)
    assert (name, condition.status) == ("first", "False")
    assert condition.message.endswith("; its last good version goes on running")
    # Once more, and then without the source that it had.
    assert keep_last_good(kept, load_text(tmp_path, SECRET + text)).exporters == kept
    text = text.replace("{name: all}, ", "")
    (policy,) = keep_last_good(kept, load_text(tmp_path, SECRET + text)).exporters
    assert policy.sinks[1].sources == ()


@pytest.mark.parametrize("kind", ["true", "[5]", "{a: b}", "[[]]"])
def test_a_kind_is_not_read_where_its_group_is_faulty(tmp_path: Path, kind: str) -> None:
    selector = f"{{resourceSelectors: [{{kinds: [{{group: Apps, kind: {kind}}}]}}]}}"
    result = load_text(tmp_path, SECRET + POLICY.replace("{metricsql: up}", selector))
    (fault,) = result.faults
    assert fault.path == "spec.sources[1].metrics.resourceSelectors[0].kinds[0].group"


def test_a_policy_with_another_fault_runs_on_as_it_was(tmp_path: Path) -> None:
    running = load_text(tmp_path, SECRET + POLICY).exporters
    text = POLICY.replace("metricsql: up", "metricsql: 'rate(up)'")
    broken = load_text(tmp_path, SECRET + text + EXPORTER)
    assert broken.faulty == {"default/ExportPolicy/example"}
    kept = keep_last_good(running, broken).exporters
    assert [one.id for one in kept] == ["default/example", "default/ExportPolicy/example"]
    assert kept[1] is running[0]


def test_a_sink_that_is_gone_or_of_another_object_does_not_run_on(tmp_path: Path) -> None:
    named = POLICY.replace("{name: example}", "{name: example, uid: a}")
    running = load_text(tmp_path, SECRET + named).exporters
    other = named.replace("uid: a", "uid: b").replace("[all]", "[al]")
    (policy,) = keep_last_good(running, load_text(tmp_path, SECRET + other)).exporters
    assert names_of(policy) == ["second"]


def test_a_typed_secret_that_comes_or_goes_changes_its_sink_alone(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    secret = tmp_path / "secret.yaml"
    manifests = Manifests([ExporterPath(tmp_path)])
    (before,) = manifests.load().exporters
    assert names_of(before) == ["second"]
    (same,) = manifests.load().exporters
    assert same is before, "what did not change is the same object"
    secret.write_text(SECRET)
    result = manifests.load()
    (policy,) = result.exporters
    assert names_of(policy) == ["first", "second"]
    assert (policy.refused, result.faults) == ((), ())
    secret.write_text(SECRET.replace(f"type: {BASIC}\n", "type: Opaque\n"))
    result = manifests.load()
    (policy,) = result.exporters
    assert names_of(policy) == ["second"]
    (fault,) = result.faults
    assert fault.message == f"secret default/login: must be of type {BASIC}, not Opaque"
    with pytest.raises(SecretError, match=f"must be of type {BASIC}"):
        result.secrets.get("", "default", SecretRef("login", type=BASIC), "username")
    assert result.secrets.get("", "default", SecretRef("login"), "username") == "user"


def test_a_mounted_secret_needs_no_type(tmp_path: Path) -> None:
    mounted = tmp_path / "secrets/default/login"
    mounted.mkdir(parents=True)
    (mounted / "username").write_text("user")
    (mounted / "password").write_text("example")
    result = load_text(tmp_path, POLICY, secrets=tmp_path / "secrets")
    assert result.faults == ()
    (mounted / "password").unlink()
    (fault,) = load_text(tmp_path, POLICY, secrets=tmp_path / "secrets").faults
    assert fault.message == "secret default/login, key password: the secret has no such key"


def test_a_secret_is_found_when_it_is_mounted_later(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/policy.yaml").write_text(POLICY)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    manifests = Manifests([ExporterPath(tmp_path / "manifests")], secrets_root=secrets)
    assert len(manifests.load().faults) == 1
    assert manifests.poll(1.0) is None
    (secrets / "default/login").mkdir(parents=True)
    (secrets / "default/login/username").write_text("user")
    (secrets / "default/login/password").write_text("example")
    result = manifests.poll(2.0)
    assert result is not None
    (policy,) = result.exporters
    assert names_of(policy) == ["first", "second"]


def test_check_says_once_what_a_limit_of_attempts_costs(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(SECRET + POLICY)
    result = check([file])
    about = f"{file}:8 (document 2, ExportPolicy default/example)"
    place = "spec.sinks[0].target.prometheusRemoteWrite.retry"
    dropped = "after 3 retries, some 35s, what the endpoint does not take is dropped"
    assert result.lines == (
        f"good     {about}: policy default/ExportPolicy/example (2 sources, 2 sinks)",
        f"warning  {about}: {place}: {dropped}; the same in 1 more sink",
        "no faults, 1 warning",
    )
    file.write_text(SECRET + POLICY.replace("[up]", "[down]"))
    good, *_, summary = check([file]).lines
    assert good.endswith(": policy default/ExportPolicy/example (2 sources, 1 of 2 sinks)")
    assert summary == "1 fault, 1 warning"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://otlp.example.com:4317", "port 4317 is that of OTLP over gRPC"),
        ("https://mimir.example.com/api/v1/push", "openTelemetry.http sends OTLP"),
        ("https://api.datadoghq.com", "OTLP metrics go to https://otlp.datadoghq.com"),
    ],
)
def test_warnings_speak_of_the_policys_fields(tmp_path: Path, endpoint: str, said: str) -> None:
    text = POLICY.replace("https://otlp.example.com/otlp", endpoint)
    (warning,) = load_text(tmp_path, SECRET + text).warnings
    assert warning.path == "spec.sinks[1].target.openTelemetry.http.endpoint"
    assert said in warning.message
    assert "otlp_http" not in warning.message
    assert "profile" not in warning.message


def test_credentials_over_plain_http_are_warned_of(tmp_path: Path) -> None:
    text = POLICY.replace("https://prometheus", "http://prometheus")
    (warning,) = load_text(tmp_path, SECRET + text).warnings
    assert warning.path == "spec.sinks[0].target.prometheusRemoteWrite.endpoint"
    assert warning.message == "credentials travel unencrypted; use https where you can"


@pytest.mark.parametrize("kind", ["exportpolicy", "ExportPolicys", "Export-Policy"])
def test_a_misspelt_kind_hides_no_other_fault(tmp_path: Path, kind: str) -> None:
    text = POLICY.replace("kind: ExportPolicy", f"kind: {kind}").replace("[up]", "[down]")
    result = load_text(tmp_path, SECRET + text)
    assert [fault.path for fault in result.faults] == ["kind", "spec.sinks[1].sources[0]"]
    assert result.exporters == ()


def test_a_policy_without_a_kind_is_known_by_its_target(tmp_path: Path) -> None:
    text = POLICY.replace("kind: ExportPolicy\n", "").replace(".miloapis.", ".datumapis.")
    result = load_text(tmp_path, SECRET + text)
    assert [fault.path for fault in result.faults] == ["kind"]
