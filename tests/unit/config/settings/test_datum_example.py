"""config/datum.yaml recognises the series of Datum Cloud by the labels that stand on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli import main
from relay.config.settings.lint import notices
from relay.config.settings.settings import Settings, TenancySettings, load_settings
from relay.control.explain import parse_series
from relay.selector.resources.kind_table import KindTable
from tests.kit.paths import ROOT

EXAMPLE = ROOT / "config/datum.yaml"
PROJECT = 'resourcemanager_datumapis_com_project_name="acme"'
GATEWAY = "gateway.networking.k8s.io"
COMPUTE = "compute.datumapis.com"
NETWORKING = "networking.datumapis.com"
TELEMETRY = "telemetry.miloapis.com"

STATE = [
    ("datum_cloud_networking_gateway_info", GATEWAY, "Gateway"),
    ("datum_cloud_networking_gateway_created", GATEWAY, "Gateway"),
    ("datum_cloud_networking_gateway_status", GATEWAY, "Gateway"),
    ("datum_cloud_networking_gateway_status_condition_last_transition_time", GATEWAY, "Gateway"),
    ("datum_cloud_networking_gateway_owner", GATEWAY, "Gateway"),
    ("datum_cloud_core_secret_info", "", "Secret"),
    ("datum_cloud_telemetry_export_policy_info", TELEMETRY, "ExportPolicy"),
    ("datum_cloud_telemetry_export_policy_created", TELEMETRY, "ExportPolicy"),
    ("datum_cloud_telemetry_export_policy_status_condition", TELEMETRY, "ExportPolicy"),
    ("datum_cloud_telemetry_export_policy_sink_status_condition", TELEMETRY, "ExportPolicy"),
    ("datum_cloud_compute_instance_info", COMPUTE, "Instance"),
    ("datum_cloud_compute_workload_deployment_info", COMPUTE, "WorkloadDeployment"),
    ("datum_cloud_compute_workload_status_condition", COMPUTE, "Workload"),
    ("datum_cloud_network_binding_info", NETWORKING, "NetworkBinding"),
    ("datum_cloud_network_context_info", NETWORKING, "NetworkContext"),
    ("datum_cloud_network_policy_info", NETWORKING, "NetworkPolicy"),
    ("datum_cloud_network_status_condition", NETWORKING, "Network"),
    ("datum_cloud_subnet_claim_info", NETWORKING, "SubnetClaim"),
    ("datum_cloud_subnet_info", NETWORKING, "Subnet"),
]
RECORDED = [one for one in STATE if one[2] in ("Gateway", "Secret", "ExportPolicy")]

SERIES = [
    *((f'{name}{{name="a",namespace="default"}}', group, kind) for name, group, kind in STATE),
    *(
        (f'{name}{{resource_name="a",resource_namespace="default"}}', group, kind)
        for name, group, kind in RECORDED
    ),
    *(
        (
            (
                f'{name}{{gateway_name="a",gateway_namespace="default",namespace="envoy",'
                'label_topology_kubernetes_io_region="eu",envoy_response_code="200"}'
            ),
            GATEWAY,
            "Gateway",
        )
        for name in (
            "envoy_vhost_vcluster_upstream_rq",
            "envoy_vhost_vcluster_upstream_rq_time_sum",
        )
    ),
    (
        (
            'envoy_vhost_vcluster_upstream_rq_time_bucket{gateway_name="a",gateway_namespace="default",'
            'namespace="envoy",le="0.5"}'
        ),
        GATEWAY,
        "Gateway",
    ),
    (
        (
            'gateway_requests{region="eu",gateway="a",gateway_namespace="default",gateway_class="x",'
            'httproute_name="r",httproute_namespace="default"}'
        ),
        GATEWAY,
        "Gateway",
    ),
    (
        'envoy_cluster_upstream_rq{httproute_name="a",httproute_namespace="default"}',
        GATEWAY,
        "HTTPRoute",
    ),
    (
        (
            'component_sent_events_total{service_name="telemetry.miloapis.com",'
            'resource_kind="ExportPolicy",resource_namespace="default",resource_name="a",sink_name="s"}'
        ),
        TELEMETRY,
        "ExportPolicy",
    ),
]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(EXAMPLE)


def test_the_example_is_sound(settings: Settings) -> None:
    assert settings.tenancy == TenancySettings("resourcemanager_datumapis_com_project_name")
    assert list(notices(settings, {})) == ["exporters: none, so nothing will be exported"]


@pytest.mark.parametrize(("series", "group", "kind"), SERIES, ids=lambda one: str(one)[:70])
def test_each_family_has_its_resource(
    settings: Settings, series: str, group: str, kind: str
) -> None:
    found = KindTable(settings.resources).identify(parse_series(series))
    assert found[:4] == (group, kind, "default", "a")
    assert found.row.marks is not None


def test_instances_have_no_namespace(settings: Settings) -> None:
    labels = parse_series(
        'datum_compute_instance_cpu_usage_seconds_total{resource_name="a",node="n",region="eu",'
        'instance_container="app",runtime_class="unikraft"}'
    )
    assert KindTable(settings.resources).identify(labels)[:4] == (COMPUTE, "Instance", "", "a")


def test_other_series_are_read_by_the_labels_of_the_platform(settings: Settings) -> None:
    table = KindTable(settings.resources)
    for text in ("up{}", "datum_cloud_networking_x{}", "datum_cloud{}", "zzz{}", "a{}"):
        assert table.identify(parse_series(text)).row is table.built_in


def test_every_row_decides_for_some_series(settings: Settings) -> None:
    table = KindTable(settings.resources)
    asked = [series for series, _, _ in SERIES] + ["datum_compute_instance_cpu{}"]
    decided = {table.row_of(parse_series(text)).number for text in asked}
    assert decided == set(range(len(settings.resources.kinds)))


POLICY = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: gateways, namespace: default}
spec:
  sources:
    - name: gateways
      metrics:
        resourceSelectors:
          - kinds: [{apiGroups: [gateway.networking.k8s.io], resources: [gateways]}]
  sinks:
    - name: collector
      otlp_http: {endpoint: "https://otlp.example.com"}
"""


@pytest.mark.parametrize(
    ("series", "wanted"),
    [
        (
            (
                f'envoy_vhost_vcluster_upstream_rq{{{PROJECT},gateway_name="edge",'
                'gateway_namespace="default"}'
            ),
            [
                "acme/default/gateways",
                "  yes: source gateways takes it, to collector",
                (
                    "    because of resourceSelectors[0]: kinds gateways of "
                    "gateway.networking.k8s.io, the exporter's own namespace"
                ),
                (
                    "    the series is about Gateway default/edge, by resources.kinds[0] "
                    "(label gateway_name)"
                ),
            ],
        ),
        (
            f'datum_cloud_core_secret_info{{{PROJECT},name="token",namespace="default"}}',
            [
                "acme/default/gateways",
                "  no: source gateways",
                (
                    "    the series is about Secret default/token, by resources.kinds[7] "
                    "(metricPrefix datum_cloud_core_secret_)"
                ),
                (
                    "    resourceSelectors[0]: wants kinds gateways of gateway.networking.k8s.io: "
                    'it is Secret of ""'
                ),
            ],
        ),
        (
            (
                'envoy_vhost_vcluster_upstream_rq{resourcemanager_datumapis_com_project_name="other",'
                'gateway_name="edge",gateway_namespace="default"}'
            ),
            [
                "acme/default/gateways",
                "  no: the series is not of this exporter's project",
            ],
        ),
    ],
    ids=["taken", "another kind", "another project"],
)
def test_explain_shows_the_row_but_asks_for_the_project_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], series: str, wanted: list[str]
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "relay.yaml").write_text(
        EXAMPLE.read_text() + "exporters: [{path: policy.yaml, project: acme}]\n"
    )
    command = ["explain", "--config", str(tmp_path / "relay.yaml"), "--all", series]
    assert main.main(command) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[: len(wanted)] == wanted


def test_a_row_in_vain_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(
        "resources:\n  kinds:\n"
        "    - {kind: Subnet, group: g.io, marks: {metricPrefix: subnet_}}\n"
        "    - {kind: Claim, group: g.io, marks: {metricPrefix: subnet_claim_}}\n"
    )
    first, *_ = notices(load_settings(tmp_path / "relay.yaml"), {})
    assert first == (
        "resources.kinds[1]: never decides: kinds[0] (Subnet by metricPrefix subnet_) fits all "
        "its series; put it before that one"
    )
