"""A real API server takes every object that kustomize and Helm make, and its roles are enough."""

from __future__ import annotations

import base64
import copy
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from build_support.deployments import (
    BASE,
    CHART,
    CLUSTER,
    LABELS,
    OWN_NAMESPACE,
    SECRETS,
    Permission,
)
from relay.cli.check import check
from tests.kit.kubernetes.real_api import real_api
from tests.kit.kubernetes.rendering import (
    MONITORING,
    Cluster,
    Objects,
    helm,
    kustomized,
    templated,
)
from tests.kit.processes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.newest]

EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: one}
spec:
  sources: [{name: all, metrics: {metricsql: '{job="a"}'}}]
  sinks: [{name: there, otlp_http: {endpoint: 'https://otlp.example.com'}}]
"""
MONITORS = {"monitoring": {"prometheusOperator": True, "victoriaMetricsOperator": True}}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "monitoring": MONITORS,
    "namespaces": {
        "kubernetes": {"settings": {"namespaces": ["default"]}},
        "rbac": {"secrets": "get"},
    },
    "several-namespaces": {"kubernetes": {"settings": {"namespaces": ["default", "kube-public"]}}},
    "files": {
        "kubernetes": {"enabled": False},
        "files": {"one.yaml": EXPORTER},
        "secrets": [{"name": "grafana-api-key", "keys": ["token"]}],
        "replicas": 3,
    },
    "tenancy": {
        "settings": {"tenancy": {"label": "project"}},
        "kubernetes": {
            "settings": {
                "inCluster": False,
                "projects": {"kubeconfigs": "/etc/relay-projects"},
            }
        },
        "kubeconfigsSecret": "projects",
    },
    "everything": {
        "fullnameOverride": "exports",
        "image": {"repository": "registry.example.com/relay", "tag": "1.2.3"},
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccount": {"annotations": {"a": "b"}},
        "storage": {"className": "fast", "whenDeleted": "Delete", "size": "20Gi"},
        "podAnnotations": {"c": "d"},
        "nodeSelector": {"e": "f"},
        "tolerations": [{"key": "g", "operator": "Exists"}],
        "priorityClassName": "high",
        "ingestSecret": "",
        "settings": {"ingest": None},
        "networkPolicy": {"refused": {"v4": [], "v6": []}},
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "exports"}},
            }
        ],
    },
    "api": {
        "api": {
            "enabled": True,
            "secretKeys": ["tokens.yaml", "keys"],
            "settings": {"encryptionKeyFile": "secrets/api/keys"},
        },
        "kubernetes": {"enabled": False},
    },
    "bare": {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """An API server that knows the relay's own kinds and has its namespace."""
    async with real_api(tmp_path, roles=True) as api:
        kube = Cluster(api.kubeconfig)
        kube("apply", "--server-side", "-k", "config/crds")
        kube("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        # With its labels the server warns of pods that its standard would not admit.
        kube("apply", "--server-side", "-f", f"{BASE}/namespace.yaml")
        yield kube


def known(found: Objects) -> str:
    """The objects as YAML, without those of operators that are not there."""
    left_out = [one["kind"] for one in found if one["apiVersion"] in MONITORING]
    if left_out:
        print(f"NOT tried on the API server, which lacks their definitions: {left_out}")
    kept = [one for one in found if one["apiVersion"] not in MONITORING]
    return yaml.safe_dump_all(kept)


async def test_an_api_server_takes_every_object(cluster: Cluster) -> None:
    rendered = {
        "base": kustomized("kubernetes/base"),
        "sidecar": kustomized("kubernetes/overlays/sidecar"),
        "components": kustomized(
            "kubernetes/base",
            *("secrets-by-get", "prometheus-operator", "victoriametrics-operator", "own-api"),
        ),
        **{name: templated(values) for name, values in VALUES.items()},
    }
    for name, found in rendered.items():
        said = cluster(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-",
            given=known(found),
        )  # fmt: skip
        there = sum(one["apiVersion"] not in MONITORING for one in found)
        assert said.count("serverside-applied (server dry run)") == there, (name, said)


async def test_the_server_warns_of_pods_that_the_namespace_would_not_admit(
    cluster: Cluster,
) -> None:
    (pods,) = [one for one in kustomized("kubernetes/base") if one["kind"] == "StatefulSet"]
    dry_run = ("apply", "--server-side", "--dry-run=server", "-f", "-")
    cluster(*dry_run, given=yaml.safe_dump(pods))
    pods["spec"]["template"]["spec"]["securityContext"].pop("seccompProfile")
    with pytest.raises(AssertionError, match="would violate PodSecurity"):
        cluster(*dry_run, given=yaml.safe_dump(pods))


def rights_of(*permissions: Permission) -> dict[str, set[str]]:
    """What permissions allow, by resource and group."""
    found: dict[str, set[str]] = {}
    for one in permissions:
        for group in one.groups:
            for resource in one.resources:
                name, _, part = resource.partition("/")
                whole = f"{name}.{group}" if group else name
                found[f"{whole}/{part}" if part else whole] = set(one.verbs)
    return found


async def test_the_roles_are_enough_and_no_more(cluster: Cluster) -> None:
    def apply(found: Objects) -> None:
        cluster("apply", "--server-side", "--force-conflicts", "-f", "-", given=known(found))

    everywhere, own = rights_of(*CLUSTER), rights_of(*OWN_NAMESPACE)
    watch, get = rights_of(SECRETS["watch"]), rights_of(SECRETS["get"])
    for found, secrets in (
        (kustomized("kubernetes/base"), watch),
        (templated(), watch),
        (kustomized("kubernetes/base", "secrets-by-get"), get),
    ):
        apply(found)
        assert cluster.rights("default") == everywhere | secrets
        assert cluster.rights("relay-system") == everywhere | secrets | own
    apply(templated(VALUES["namespaces"]))
    namespaces = {"namespaces": {"list", "watch"}}
    assert cluster.rights("default") == everywhere | get
    assert cluster.rights("kube-public") == namespaces
    assert cluster.rights("relay-system") == namespaces | own


async def test_definitions_are_explained_and_applied_again(cluster: Cluster) -> None:
    # The server publishes the schema of a new definition a moment later.
    kind = ("explain", "exporter", "--api-version=telemetry.datumapis.com/v1alpha1")
    await eventually("a schema", lambda: cluster.can(*kind), timeout_s=30)
    for path in ("exporter", "exporter.spec.sinks.otlp_http.endpoint", "exporter.spec.sources"):
        said = cluster("explain", path, "--api-version=telemetry.datumapis.com/v1alpha1")
        assert "<empty>" not in said, said
        assert "DESCRIPTION" in said
    cluster("apply", "-f", "-", given=EXPORTER)
    for crd in yaml.safe_load(cluster("get", "crd", "-o", "yaml"))["items"]:
        old = copy.deepcopy(crd)
        (version,) = old["spec"]["versions"]
        version["additionalPrinterColumns"] = []
        for name in ("managedFields", "resourceVersion", "uid"):
            old["metadata"].pop(name, None)
        old.pop("status")
        cluster("apply", "--server-side", "--force-conflicts", "-f", "-", given=json.dumps(old))
    cluster("apply", "--server-side", "-k", "config/crds")
    assert "one" in cluster("get", "exporters", "-o", "name")
    names = {name.partition(" ")[0] for name in cluster("get", "exporters").splitlines()[:1]}
    assert names == {"NAME"}


async def test_helm_installs_upgrades_goes_back_and_uninstalls(cluster: Cluster) -> None:
    def release(*arguments: str) -> str:
        done = helm(*arguments, "--namespace", "relay-system", "--kubeconfig", cluster.kubeconfig)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pods() -> dict[str, Any]:
        text = cluster("-n", "relay-system", "get", "statefulset", "relay", "-o", "json")
        document: dict[str, Any] = json.loads(text)["spec"]
        return document

    told = release("install", "relay", CHART)
    assert "http://relay.relay-system:9490/api/v1/write" in told
    assert "create secret generic relay-ingest" in told
    cluster("apply", "-f", "-", given=EXPORTER)
    first = pods()
    release("upgrade", "relay", CHART, "--set", "replicas=2,settings.log.level=debug")
    second = pods()
    assert second["replicas"] == 2
    assert second["template"] != first["template"], "changed settings replace the pods"
    release("rollback", "relay", "1")
    assert pods()["template"] == first["template"]
    release("uninstall", "relay")
    kinds = "statefulset,service,configmap,role,rolebinding,poddisruptionbudget,networkpolicy"
    left = cluster("-n", "relay-system", "get", kinds, "-o", "name").split()
    assert not [name for name in left if "root-ca" not in name]
    assert "one" in cluster("get", "exporters", "-o", "name"), "definitions and objects stay"


# Without an API server.


def test_the_chart_passes_helms_own_checks() -> None:
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout
    for values in VALUES.values():
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values, file)
            file.flush()
            done = helm("lint", "--strict", CHART, "--values", file.name)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("replica=3", "replica"),
        ("replicas=three", "replicas"),
        ("settings.kubernetes.inCluster=true", "settings"),
        ("settings.listen=127.0.0.1:1", "settings.listen"),
        ("settings.api.listen=127.0.0.1:1", "settings"),
        ("api.settings.listen=127.0.0.1:1", "api.settings.listen"),
        ("api.enabled=true,replicas=2", "api.enabled needs replicas: 1"),
        ("rbac.secrets=all", "rbac.secrets"),
        ("files.note=text", "note"),  # Helm names another place
    ],
)
def test_wrong_values_are_refused_by_name(values: str, words: str) -> None:
    done = helm("template", "relay", CHART, "--kube-version", "1.37.2", "--set", values)
    assert done.returncode != 0
    assert words.replace(".", "/") in done.stderr or words in done.stderr, done.stderr


def comparable(found: Objects) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects without what the two tools add: labels, digests in names, their order."""
    result = {}
    for original in found:
        one = copy.deepcopy(original)
        if one["kind"] in ("Namespace", "CustomResourceDefinition"):
            continue
        name = one["metadata"]["name"]
        labels = one["metadata"].pop("labels")
        assert labels.items() >= LABELS.items()
        if one["kind"] == "ConfigMap":
            name = "relay"
            one["data"] = {key: yaml.safe_load(text) for key, text in one["data"].items()}
            one["metadata"]["name"] = name
        if one["kind"] == "StatefulSet":
            template = one["spec"]["template"]
            template["metadata"].pop("annotations", None)
            (container,) = template["spec"]["containers"]
            container.pop("imagePullPolicy", None)
            for source in template["spec"]["volumes"][0]["projected"]["sources"]:
                if "configMap" in source:
                    source["configMap"]["name"] = "relay"
        result[one["kind"], name] = one
    return result


def test_kustomize_and_helm_make_the_same() -> None:
    base = comparable(kustomized("kubernetes/base"))
    assert comparable(templated()) == base
    both = ("prometheus-operator", "victoriametrics-operator")
    more = comparable(kustomized("kubernetes/base", *both))
    assert comparable(templated(MONITORS)) == more
    assert len(more) == len(base) + 4
    get = comparable(kustomized("kubernetes/base", "secrets-by-get"))
    assert comparable(templated({"rbac": {"secrets": "get"}})) == get
    assert get != base
    held = comparable(kustomized("kubernetes/base", "finalizer", "secrets-by-get"))
    assert held != get
    right = {"rbac": {"secrets": "get", "finalizer": True}}
    assert comparable(templated(right)) == held
    api = comparable(kustomized("kubernetes/base", "own-api"))
    assert comparable(templated({"api": {"enabled": True}})) == api
    assert len(api) == len(base) + 1
    on = comparable(templated({"kubernetes": {"settings": {"finalizer": True}}}))
    role = ("ClusterRole", "telemetry-relay")
    assert on[role] == comparable(templated({"rbac": {"finalizer": True}}))[role] != base[role]


@pytest.mark.parametrize("name", VALUES)
def test_the_settings_of_the_chart_load(name: str, tmp_path: Path) -> None:
    found = templated(VALUES[name])
    (pods,) = [one for one in found if one["kind"] == "StatefulSet"]
    maps = {one["metadata"]["name"]: one["data"] for one in found if one["kind"] == "ConfigMap"}
    pod = pods["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "settings"]
    for source in volume["projected"]["sources"]:
        if "configMap" in source:
            data = maps[source["configMap"]["name"]]
            items = source["configMap"].get("items") or [{"key": key, "path": key} for key in data]
        else:
            items = source["secret"]["items"]
            data = dict.fromkeys((item["key"] for item in items), "a-token")
            data["tokens.yaml"] = "- {token: a-token-of-an-admin, user: jane, role: admin}\n"
            data["keys"] = base64.b64encode(bytes(32)).decode()
        for item in items:
            path = tmp_path / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(data[item["key"]])
    result = check([tmp_path / "relay.yaml"])
    assert result.faults == (), result.lines
    if name == "files":
        assert any("Exporter" in line for line in result.lines), result.lines


def test_changed_settings_replace_the_pods() -> None:
    def digest(values: dict[str, Any]) -> str:
        (pods,) = [one for one in templated(values) if one["kind"] == "StatefulSet"]
        text: str = pods["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
        return text

    assert digest({}) == digest({"replicas": 2})
    assert digest({}) != digest({"settings": {"log": {"level": "debug"}}})
    assert digest({}) != digest({"kubernetes": {"enabled": False}})


def test_monitors_have_the_fields_of_their_operators() -> None:
    """By the published schemas, from which these four kinds use little."""
    found = {one["kind"]: one for one in templated(MONITORS)}
    for kind, relabel in (("PodMonitor", "relabelings"), ("VMPodScrape", "relabelConfigs")):
        spec = found[kind]["spec"]
        assert spec.keys() == {"selector", "podMetricsEndpoints"}
        (endpoint,) = spec["podMetricsEndpoints"]
        assert endpoint.keys() == {"port", "path", "interval", relabel}
        (rule,) = endpoint[relabel]
        assert rule == {"action": "replace", "targetLabel": "job", "replacement": "relay"}
    for kind in ("PrometheusRule", "VMRule"):
        for group in found[kind]["spec"]["groups"]:
            assert group.keys() == {"name", "rules"}
            for alert in group["rules"]:
                assert alert.keys() <= {"alert", "expr", "for", "labels", "annotations"}
                assert "{{" not in alert["expr"]


def test_the_sidecar_is_ready_before_vmagent_and_reached_by_it_alone() -> None:
    found = kustomized("kubernetes/overlays/sidecar")
    (pods,) = [one for one in found if one["kind"] == "StatefulSet"]
    pod = pods["spec"]["template"]["spec"]
    (relay,) = pod["initContainers"]
    (vmagent,) = pod["containers"]
    assert (relay["name"], relay["restartPolicy"], vmagent["name"]) == (
        "relay", "Always", "vmagent",
    )  # fmt: skip
    assert [port["name"] for port in relay["ports"]] == ["admin"]
    paths = {mount["subPath"] for one in (relay, vmagent) for mount in one["volumeMounts"]
             if mount["name"] == "data"}  # fmt: skip
    assert paths == {"relay", "vmagent"}
    names = {volume["name"] for volume in pod["volumes"]} | {"data"}
    for one in (relay, vmagent):
        assert {mount["name"] for mount in one["volumeMounts"]} <= names
    services = [one["metadata"]["name"] for one in found if one["kind"] == "Service"]
    assert services == ["relay-pods"]
    assert not any(
        "secret" in source
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    )
