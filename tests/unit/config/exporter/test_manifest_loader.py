"""Manifests to Exporters: good and bad files, directories, neighbours, and the examples we ship."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config.exporter.build import EVERYTHING, exporter_schema
from relay.config.exporter.cross_checks import PROJECT_COST_MAX
from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import (
    Authentication,
    Batch,
    ClientTls,
    ExporterPath,
    OtlpHttp,
    Queue,
    RetrySettings,
    SecretRef,
    Sink,
)
from relay.config.schema.words import nearest
from relay.runtime.errors import Fault
from relay.selector.regex import compile_regex
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data/exporters"
CONFIG = ROOT / "config"
BAD = sorted((DATA / "bad").glob("*.yaml"))
GOOD = sorted((DATA / "good").glob("*.yaml"))

MINIMAL = (DATA / "good/minimal.yaml").read_text()


def load(*paths: Path, secrets: Path | None = None, project: str = "") -> LoadResult:
    return load_exporters(
        [ExporterPath(path, project) for path in paths],
        secrets_root=secrets,
        tenancy=bool(project),
    )


def text_of(fault: Fault) -> str:
    """Path and message as a person sees them, without the folder that the tests are in."""
    text = f"{fault.path}: {fault.message}" if fault.path else fault.message
    return text.replace(f"{DATA / 'bad'}/", "")


def expected_faults(file: Path) -> list[str]:
    """What the file's head says: ``# fault: …`` with further lines as ``#  …``."""
    faults: list[str] = []
    for line in file.read_text().splitlines():
        if line.startswith("# fault: "):
            faults.append(line.removeprefix("# fault: "))
        elif line.startswith("#  ") and faults:
            faults[-1] += "\n" + line.removeprefix("#  ")
        else:
            break
    return faults


def renamed(name: str) -> str:
    return MINIMAL.replace("name: minimal", f"name: {name}")


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_each_rule_has_its_fault(file: Path) -> None:
    result = load(DATA / "secrets.yaml", file)
    assert [text_of(fault) for fault in result.faults] == expected_faults(file)
    assert "hunter2" not in str(result.faults)
    assert all(fault.origin.startswith(f"{file}:") for fault in result.faults)


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good_files_load(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "default/grafana-api-key/token"
    secret.parent.mkdir(parents=True)
    secret.write_text("fake-token\n")
    result = load(file, secrets=tmp_path)
    assert result.faults == ()
    assert len(result.exporters) == 1


def test_the_proposals_example_loads_verbatim(tmp_path: Path) -> None:
    manifest = tmp_path / "secret.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: grafana-api-key}\nstringData: {token: x}\n"
    )
    result = load(DATA / "good/seed-mvp.yaml", manifest)
    assert result.faults == ()
    (exporter,) = result.exporters
    assert (exporter.id, exporter.project) == ("default/gateway-exporter", "")
    (source,) = exporter.sources
    assert source.name == "gateway-metrics"
    assert source.query.startswith("{service_name=“networking.datumapis.com”")
    assert {(one.label, one.op, one.value) for one in source.selector.groups[0]} == {
        ("service_name", "=", "networking.datumapis.com"),
        ("resource_kind", "=", "Gateway"),
        ("__name__", "=~", "network_bytes_.*"),
    }
    assert len(exporter.warnings) == 2
    assert {warning.path for warning in exporter.warnings} == {"spec.sources[0].metrics.metricsql"}
    assert exporter.sinks == (
        Sink(
            name="grafana-cloud-exporter",
            sources=("gateway-metrics",),
            endpoint=OtlpHttp(
                url="https://otlp-gateway-prod-eu-west-0.grafana.net/otlp/v1/metrics",
                authentication=Authentication("bearerToken", SecretRef("grafana-api-key", "token")),
            ),
            batch=Batch(enabled=True, timeout_s=5.0, points_max=500),
            retry=RetrySettings(enabled=True, attempts_max=3, backoff_s=2.0),
            queue=Queue(),
        ),
    )


def test_the_proposals_example_needs_its_secret() -> None:
    (fault,) = load(DATA / "good/seed-mvp.yaml").faults
    assert fault.path == "spec.sinks[0].otlp_http.authentication.secretRef"
    assert fault.message == (
        "secret default/grafana-api-key, key token: there is no such secret; add its manifest, "
        "or say where secrets are mounted (secrets, --secrets)"
    )
    assert fault.origin.endswith("seed-mvp.yaml:30:11 (Exporter default/gateway-exporter)")


def test_defaults_are_those_of_the_model() -> None:
    (exporter,) = load(DATA / "good/minimal.yaml").exporters
    assert exporter.sources[0].selector == EVERYTHING
    assert exporter.sinks == (
        Sink(
            name="collector",
            sources=("all",),
            endpoint=OtlpHttp(url="http://127.0.0.1:4318/v1/metrics"),
        ),
    )
    assert exporter.warnings == ()
    assert exporter.origin.endswith("minimal.yaml:2 (Exporter default/minimal)")


def test_aliases_are_followed_and_paths_kept() -> None:
    (exporter,) = load(DATA / "good/shared-blocks.yaml").exporters
    first, second = exporter.sinks
    assert first.sources == ("up",)
    assert second.sources == ("up", "all")
    assert first.batch == second.batch == Batch(points_max=10_000, timeout_s=90.0)
    assert first.retry == second.retry == RetrySettings(enabled=False)
    assert first.endpoint.url == "https://[2001:db8::1]:4318/base/v1/metrics"


def test_a_trailing_slash_does_not_double() -> None:
    (exporter,) = load(DATA / "good/kubectl-output.yaml").exporters
    assert exporter.sinks[0].endpoint.url == "https://collector.example.com/otlp/v1/metrics"


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: Bad}
spec:
  sources:
    - {name: a, metrics: {metricsql: "{"}}
  sinks:
    - name: b
      sources: [c]
      otlp_http: {endpoint: nowhere, timeout: 1y}
      retry: {backof: 2s, maxAttempts: 0}
"""
    )
    result = load(file)
    assert [fault.path for fault in result.faults] == [
        "metadata.name",
        "spec.sources[0].metrics.metricsql",
        "spec.sinks[0].sources[0]",
        "spec.sinks[0].otlp_http.endpoint",
        "spec.sinks[0].otlp_http.timeout",
        "spec.sinks[0].retry.backof",
        "spec.sinks[0].retry.maxAttempts",
    ]
    assert [fault.place for fault in result.faults] == [
        *((3, 18), (6, 39), (9, 17), (10, 29), (10, 47), (11, 15), (11, 40))
    ]
    assert result.exporters == ()


def test_one_faulty_exporter_never_stops_the_others(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    broken = "apiVersion: [\n"
    faulty = renamed("faulty").replace("otlp_http", "otlp_htp")
    file.write_text("---\n".join([renamed("one"), broken, faulty, renamed("two")]))
    result = load(file)
    assert [exporter.name for exporter in result.exporters] == ["one", "two"]
    assert [fault.origin.partition(" (")[2] for fault in result.faults] == [
        "document 2)",
        "document 3, Exporter default/faulty)",
    ]


def test_the_first_of_a_name_claims_it_even_if_faulty(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(renamed("same").replace("127.0.0.1:4318", "127.0.0.1:0"))
    (tmp_path / "2.yaml").write_text(renamed("same"))
    result = load(tmp_path)
    assert result.exporters == ()
    assert [fault.path for fault in result.faults] == [
        "spec.sinks[0].otlp_http.endpoint",
        "metadata.name",
    ]


def test_projects_keep_names_and_secrets_apart(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: grafana-api-key}\nstringData: "
    for project in ("acme", "umbrella"):
        (tmp_path / project).mkdir()
        text = (DATA / "good/seed-mvp.yaml").read_text()
        (tmp_path / project / "exporter.yaml").write_text(text)
    (tmp_path / "acme/secret.yaml").write_text(secret + "{token: fake-token}\n")
    result = load_exporters(
        [ExporterPath(tmp_path / project, project) for project in ("acme", "umbrella")],
        tenancy=True,
    )
    assert [exporter.id for exporter in result.exporters] == ["acme/default/gateway-exporter"]
    (fault,) = result.faults
    assert "there is no such secret" in fault.message
    assert str(tmp_path / "umbrella") in fault.origin


def test_blocking_is_for_an_operator_without_tenants() -> None:
    file = DATA / "good/block-alone.yaml"
    assert load(file).faults == ()
    (fault,) = load(file, project="acme").faults
    assert fault.path == "spec.sinks[0].queue.overflow"


def test_blocking_is_not_refused_because_of_a_faulty_neighbour(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(MINIMAL.replace("127.0.0.1:4318", "127.0.0.1:0"))
    result = load(DATA / "good/block-alone.yaml", tmp_path)
    assert [exporter.name for exporter in result.exporters] == ["block-alone"]


def _expensive(name: str, number: int) -> str:
    """An Exporter with one pattern, that is within the limits of a selector."""
    query = f'up{{pod=~"{_costly(number)}"}}'
    return renamed(name).replace('metricsql: ""', f"metricsql: '{query}'")


def _costly(number: int) -> str:
    return f"(?:[ab]?c?){{250}}x{number}"


def test_the_expressions_of_a_project_are_bounded_together(tmp_path: Path) -> None:
    cost = compile_regex(_costly(100)).cost
    fit = PROJECT_COST_MAX // cost
    assert 1_000 < cost < PROJECT_COST_MAX / 10
    projects = [tmp_path / "acme", tmp_path / "umbrella"]
    for project in projects:
        project.mkdir()
    for number in range(100, 100 + fit):
        (projects[0] / f"{number}.yaml").write_text(_expensive(f"e{number}", number))
    (projects[0] / "200-same.yaml").write_text(_expensive("same", 100))
    (projects[0] / "300-more.yaml").write_text(_expensive("more", 300))
    (projects[0] / "400-cheap.yaml").write_text(renamed("cheap"))
    (projects[1] / "300.yaml").write_text(_expensive("more", 300))
    result = load_exporters([ExporterPath(path, path.name) for path in projects], tenancy=True)
    (fault,) = result.faults
    assert fault.path == "spec.sources"
    assert "300-more.yaml" in fault.origin
    assert fault.message == (
        "the regular expressions of project acme are too expensive with these: "
        f"{cost * (fit + 1)} instructions for each character of a value, at most {PROJECT_COST_MAX}"
    )
    names = {(one.project, one.name) for one in result.exporters}
    assert {("acme", "same"), ("acme", "cheap"), ("umbrella", "more")} <= names
    assert len(names) == fit + 3
    # Without tenancy everything is the operator's own.
    assert load_exporters([ExporterPath(projects[0])]).faults == ()


@pytest.mark.parametrize("name", ["a" * 253, f"{'a-' * 40}b.c"])
def test_names_are_those_that_kubernetes_takes(tmp_path: Path, name: str) -> None:
    (tmp_path / "long.yaml").write_text(renamed(name))
    (exporter,) = load(tmp_path).exporters
    assert exporter.name == name


def test_directories_hold_manifests_and_much_else(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.yaml"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(renamed(f"from-{file.stem}"))
    for name in (".hidden.yaml", ".#b.yaml", "b.yaml~", "#b.yaml#", ".b.yaml.swp", "notes.txt"):
        (tmp_path / name).write_text("not: [valid")
    result = load(tmp_path)
    assert result.faults == ()
    assert [exporter.name for exporter in result.exporters] == ["from-a", "from-b", "from-c"]


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    version = tmp_path / "..2024_01"
    version.mkdir()
    (version / "one.yaml").write_text(renamed("one"))
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "one.yaml").symlink_to("..data/one.yaml")
    result = load(tmp_path)
    assert result.faults == ()
    assert [exporter.name for exporter in result.exporters] == ["one"]


def test_a_file_named_directly_may_have_any_name(tmp_path: Path) -> None:
    file = tmp_path / ".manifests"
    file.write_text(MINIMAL)
    assert len(load(file).exporters) == 1


def test_missing_paths_are_faults_and_the_rest_loads(tmp_path: Path) -> None:
    result = load(tmp_path / "missing", DATA / "good/minimal.yaml", secrets=tmp_path / "secrets")
    assert [str(fault) for fault in result.faults] == [
        f"{tmp_path / 'secrets'}: secrets: no such directory",
        f"{tmp_path / 'missing'}: cannot be read: No such file or directory",
    ]
    assert len(result.exporters) == 1


def test_special_files_do_not_hang_the_load(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (fault,) = load(tmp_path).faults
    assert fault.message == "cannot be read: not a regular file"


def test_an_empty_list_and_an_empty_directory_are_good(tmp_path: Path) -> None:
    assert load(tmp_path).faults == ()
    (tmp_path / "none.yaml").write_text("apiVersion: v1\nkind: List\nitems: []\n")
    assert load(tmp_path).faults == ()


def test_a_query_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(MINIMAL.replace('""', '"' + "a" * 16385 + '"'))
    (fault,) = load(file).faults
    assert fault.message == "must have at most 16384 characters, not 16385"


def test_faults_of_one_resource_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(MINIMAL + "".join(f"        unknown{index}: 1\n" for index in range(500)))
    faults = load(file).faults
    assert len(faults) == 101
    assert faults[-1].message == "400 more faults"


def test_what_lets_others_read_along_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        MINIMAL
        + "        headers: {Authorization: Bearer hunter2}\n"
        + "    - name: second\n      otlp_http:\n        endpoint: http://collector.example\n"
        + "        authentication: {type: basicAuth, secretRef: {name: credentials, key: pair}}\n"
        + "    - name: third\n      otlp_http:\n        endpoint: https://localhost\n"
        + "        tls: {insecureSkipVerify: true}\n"
    )
    result = load(file, DATA / "secrets.yaml")
    assert result.faults == ()
    assert [warning.path for warning in result.exporters[0].warnings] == [
        "spec.sinks[0].otlp_http.headers.Authorization",
        "spec.sinks[1].otlp_http.endpoint",
        "spec.sinks[2].otlp_http.tls.insecureSkipVerify",
    ]


def test_reloading_what_did_not_change_gives_equal_exporters() -> None:
    first, second = (load(CONFIG / "examples").exporters for _ in range(2))
    assert first == second
    assert first[0] is not second[0]


def test_the_shipped_examples_are_good() -> None:
    result = load(CONFIG / "examples")
    assert result.faults == ()
    assert [exporter.id for exporter in result.exporters] == [
        "payments/every-field",
        "default/gateway-exporter",
        "payments/logs-and-traces",
    ]
    assert [exporter.warnings for exporter in result.exporters] == [(), (), ()]


def test_the_full_example_has_every_field() -> None:
    """A field that is added to the model is added to the example, with its meaning."""
    text = (CONFIG / "examples/every-field.yaml").read_text()
    sink, remote_write, _ = yaml.safe_load(text)["spec"]["sinks"]
    assert set(sink) == {"name", "sources", "otlp_http", "batch", "retry", "queue"}
    schema = exporter_schema().root["properties"]["spec"]["properties"]["sinks"]["items"]
    fields = schema["properties"]["prometheusRemoteWrite"]["properties"]
    assert set(remote_write["prometheusRemoteWrite"]) == set(fields)
    yaml_names = {
        "url": "endpoint",
        "timeout_s": "timeout",
        "request_bytes_max": "maxRequestBytes",
        "promoted_labels": "promoteLabels",
        "unsupported_kinds": "profile",
        "keeps_target_labels": "profile",
        "points_max": "maxSize",
        "attempts_max": "maxAttempts",
        "backoff_s": "backoff",
        "bytes_max": "maxBytes",
        "age_max_s": "maxAge",
        "ca": "caSecretRef",
        "certificate": "certificateSecretRef",
        "secret": "secretRef",
        "server_name": "serverName",
        "insecure_skip_verify": "insecureSkipVerify",
    }
    sections: list[tuple[Any, dict[str, object]]] = [
        (OtlpHttp(url=""), sink["otlp_http"]),
        (Authentication(), sink["otlp_http"]["authentication"]),
        (ClientTls(), sink["otlp_http"]["tls"]),
        (SecretRef(""), sink["otlp_http"]["tls"]["caSecretRef"]),
        (Batch(), sink["batch"]),
        (RetrySettings(), sink["retry"]),
        (Queue(), sink["queue"]),
    ]
    for model, given in sections:
        names = set(type(model).__match_args__)
        if isinstance(model, SecretRef):
            names -= {"type"}  # of an ExportPolicy only
        names -= {"signal"}  # of an output; sources say it
        names -= {"signal_urls", "signal_bytes_max"}  # of the fields for signals
        own = {"metricsEndpoint", "logsEndpoint", "tracesEndpoint"}
        assert {yaml_names.get(name, name) for name in names} == set(given) - own


def test_a_misspelt_word_finds_its_nearest() -> None:
    assert nearest("otlpHttp", ["otlp_http", "name"]) == 'did you mean "otlp_http"?'
    assert nearest("max_size", {"maxSize", "timeout"}) == 'did you mean "maxSize"?'
    assert nearest("zzz", ["name"]) == ""
    assert nearest("n" * 100_000, ["name"]) == ""


def test_faults_of_one_project_never_name_another(tmp_path: Path) -> None:
    """The same names in two projects are no conflict, and each one's faults are its own."""
    for project in ("acme", "globex"):
        (tmp_path / project).mkdir()
        (tmp_path / project / "good.yaml").write_text(MINIMAL)
        (tmp_path / project / "twice.yaml").write_text(MINIMAL)
        (tmp_path / project / "secret.yaml").write_text(
            renamed("secret").replace(
                "otlp_http:",
                "otlp_http:\n        authentication: "
                "{type: bearerToken, secretRef: {name: token-of-globex}}",
            )
        )
    (tmp_path / "globex/token.yaml").write_text(
        "apiVersion: v1\nkind: Secret\n"
        "metadata: {name: token-of-globex}\nstringData: {token: hunter2}\n"
    )
    result = load_exporters(
        [ExporterPath(tmp_path / "acme", "acme"), ExporterPath(tmp_path / "globex", "globex")],
        tenancy=True,
    )
    assert {exporter.id for exporter in result.exporters} == {
        "acme/default/minimal",
        "globex/default/minimal",
        "globex/default/secret",
    }
    of_acme = [str(fault) for fault in result.faults if f"{tmp_path}/acme/" in fault.origin]
    assert len(of_acme) == 2
    for text in of_acme:
        assert "globex" not in text.replace("token-of-globex", "")
        assert "hunter2" not in text
