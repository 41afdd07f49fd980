"""Deployments for Kubernetes: references resolve, settings load, and one source says each thing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import relay
from build_support import deployments
from build_support.deployments import (
    BASE,
    CHART,
    CLUSTER,
    COMPONENTS,
    FINALIZER,
    OWN_NAMESPACE,
    SECRETS,
)
from relay.cli.check import check
from relay.config.settings.settings import Settings, load_settings
from relay.runtime.quantity import parse_bytes
from tests.kit.paths import ROOT

KUBERNETES = ROOT / "config/kubernetes"
SIDECAR = KUBERNETES / "overlays/sidecar"
KUSTOMIZATIONS = sorted(path.parent for path in (ROOT / "config").rglob("kustomization.yaml"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "config").as_posix()


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def base() -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of the base, by kind and name, as its files have them."""
    files = yaml.safe_load((ROOT / BASE / "kustomization.yaml").read_text())["resources"]
    found = [one for file in files for one in documents(ROOT / BASE / file)]
    objects = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(objects) == len(found)
    return objects


BASE_OBJECTS = base()
STATEFUL_SET = BASE_OBJECTS["StatefulSet", "relay"]
POD = STATEFUL_SET["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
LABELS = STATEFUL_SET["spec"]["template"]["metadata"]["labels"]


# One source for each thing.


def test_what_is_made_is_as_its_source_says() -> None:
    made = dict(deployments.files(ROOT))
    for name, content in made.items():
        assert (ROOT / name).read_text(encoding="utf-8") == content, f"make deployments: {name}"
    for folder in (f"{CHART}/generated", f"{CHART}/crds"):
        there = {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir()}
        assert there == {name for name in made if name.startswith(f"{folder}/")}


@pytest.mark.parametrize("kind", ["PrometheusRule", "VMRule"])
def test_rules_of_the_operators_are_the_shipped_ones(kind: str) -> None:
    files = [path for path in (ROOT / COMPONENTS).rglob("rules.yaml") if kind in path.read_text()]
    (rule,) = documents(files[0])
    shipped = [
        group
        for name in ("platform", "customers")
        for group in documents(ROOT / f"config/alerts/{name}.rules.yaml")[0]["groups"]
    ]
    assert rule["spec"]["groups"] == shipped


def test_the_version_is_the_same_everywhere() -> None:
    version = relay.__version__
    chart = yaml.safe_load((ROOT / CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    kustomization = yaml.safe_load((ROOT / BASE / "kustomization.yaml").read_text())
    assert kustomization["images"] == [{"name": "telemetry-relay", "newTag": version}]
    files = [
        ROOT / "Dockerfile",
        *(ROOT / "config").rglob("*.yaml"),
        *(ROOT / "docs").rglob("*.md"),
    ]
    for path in files:
        for tag in re.findall(r"telemetry-relay:(\d[\w.-]*)", path.read_text(encoding="utf-8")):
            assert tag == version, path


# The base refers to what is there.


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=name_of)
def test_a_kustomization_names_files_that_are_there_and_all_of_them(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    named = [
        *kustomization.get("resources", ()),
        *kustomization.get("components", ()),
        *(
            file
            for generator in kustomization.get("configMapGenerator", ())
            for file in generator["files"]
        ),
        *(patch["path"] for patch in kustomization.get("patches", ()) if "path" in patch),
    ]
    for name in named:
        path = folder / name
        assert path.is_file() or (path / "kustomization.yaml").is_file(), name
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "kustomization.yaml",
        *(name for name in named if "/" not in name),
    }


def test_every_object_says_what_it_belongs_to() -> None:
    for (kind, name), document in BASE_OBJECTS.items():
        labels = document["metadata"]["labels"]
        assert labels.items() >= deployments.LABELS.items(), (kind, name)


def test_everything_selects_the_pods() -> None:
    assert LABELS == deployments.LABELS
    assert STATEFUL_SET["spec"]["selector"]["matchLabels"] == LABELS
    services = [one for (kind, _), one in BASE_OBJECTS.items() if kind == "Service"]
    assert len(services) == 2
    ports = {port["name"] for port in CONTAINER["ports"]}
    for service in services:
        assert service["spec"]["selector"] == LABELS
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    budget = BASE_OBJECTS["PodDisruptionBudget", "relay"]["spec"]
    assert budget["selector"]["matchLabels"] == LABELS
    assert budget["maxUnavailable"] == 1, "a budget of none would never let a node be drained"
    policy = BASE_OBJECTS["NetworkPolicy", "relay"]["spec"]
    assert policy["podSelector"]["matchLabels"] == LABELS
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} <= ports
    for path in (ROOT / COMPONENTS).rglob("*.yaml"):
        for document in documents(path):
            if document.get("kind") in ("PodMonitor", "VMPodScrape"):
                assert document["spec"]["selector"]["matchLabels"] == LABELS
                (endpoint,) = document["spec"]["podMetricsEndpoints"]
                assert endpoint["port"] in ports


def test_the_stateful_set_refers_to_what_is_there() -> None:
    assert ("Service", STATEFUL_SET["spec"]["serviceName"]) in BASE_OBJECTS
    assert ("ServiceAccount", POD["serviceAccountName"]) in BASE_OBJECTS
    volumes = {volume["name"] for volume in POD["volumes"]}
    claims = {one["metadata"]["name"] for one in STATEFUL_SET["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes | claims
    (generator,) = yaml.safe_load((ROOT / BASE / "kustomization.yaml").read_text())[
        "configMapGenerator"
    ]
    names = [one["configMap"]["name"] for one in projected() if "configMap" in one]
    assert names == [generator["name"]]


def test_roles_are_bound_to_the_account() -> None:
    for prefix in ("Cluster", ""):
        (role,) = [one for (kind, _), one in BASE_OBJECTS.items() if kind == f"{prefix}Role"]
        (binding,) = [
            one for (kind, _), one in BASE_OBJECTS.items() if kind == f"{prefix}RoleBinding"
        ]
        assert binding["roleRef"]["kind"] == role["kind"]
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        (subject,) = binding["subjects"]
        assert subject["name"] == POD["serviceAccountName"]
        kustomization = yaml.safe_load((ROOT / BASE / "kustomization.yaml").read_text())
        assert subject["namespace"] == kustomization["namespace"]


def test_no_permission_is_more_than_it_says() -> None:
    for permission in (*CLUSTER, *FINALIZER, *SECRETS.values(), *OWN_NAMESPACE):
        for words in permission[:3]:
            assert "*" not in words
            assert words == tuple(dict.fromkeys(words))
        assert permission.why
    verbs = {verb for one in (*CLUSTER, *SECRETS.values()) for verb in one.verbs}
    assert verbs == {"get", "list", "watch", "patch", "create"}, "nothing of others is deleted"
    written = {
        resource
        for one in CLUSTER
        if {"patch", "create"} & set(one.verbs)
        for resource in one.resources
    }
    assert written == {"exporters/status", "exportpolicies/status", "events"}
    assert {verb for one in FINALIZER for verb in one.verbs} == {"patch"}


def test_secrets_by_get_changes_the_rule_of_secrets() -> None:
    component = yaml.safe_load(
        (ROOT / COMPONENTS / "secrets-by-get/kustomization.yaml").read_text()
    )
    (patch,) = component["patches"]
    test, change = yaml.safe_load(patch["patch"])
    role = BASE_OBJECTS["ClusterRole", patch["target"]["name"]]
    index = int(change["path"].split("/")[2])
    assert test["path"].split("/")[2] == str(index)
    assert role["rules"][index]["resources"] == [test["value"]] == ["secrets"]
    assert tuple(change["value"]) == SECRETS["get"].verbs


def test_the_finalizer_adds_its_rules_after_all_others() -> None:
    component = yaml.safe_load((ROOT / COMPONENTS / "finalizer/kustomization.yaml").read_text())
    (patch,) = component["patches"]
    assert ("ClusterRole", patch["target"]["name"]) in BASE_OBJECTS
    steps = yaml.safe_load(patch["patch"])
    assert {step["path"] for step in steps} == {"/rules/-"}
    assert [step["value"] for step in steps] == deployments.rules(FINALIZER)


# Settings, probes, limits.


def projected() -> list[dict[str, Any]]:
    (volume,) = [one for one in POD["volumes"] if one["name"] == "settings"]
    sources: list[dict[str, Any]] = volume["projected"]["sources"]
    return sources


def mounted(tmp_path: Path) -> Settings:
    """The settings of the base, laid out as the kubelet does."""
    (tmp_path / "relay.yaml").write_text((ROOT / BASE / "relay.yaml").read_text())
    for source in projected():
        for item in source.get("secret", {}).get("items", ()):
            path = tmp_path / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a-token")
    result = check([tmp_path / "relay.yaml"])
    assert result.faults == (), result.lines
    return load_settings(tmp_path / "relay.yaml")


def test_mounted_settings_pass_the_check_and_fit_the_pod(tmp_path: Path) -> None:
    settings = mounted(tmp_path)
    assert settings.kubernetes is not None
    assert settings.kubernetes.in_cluster
    assert settings.ingest.authentication.type == "bearer"
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {
        "remote-write": settings.listen.port,
        "admin": settings.admin_listen.port,
    }
    assert settings.listen.host == settings.admin_listen.host == "0.0.0.0"
    assert POD["terminationGracePeriodSeconds"] >= settings.shutdown.drain_timeout_s + 15
    assert settings.storage is not None
    mounts = {one["mountPath"]: one["name"] for one in CONTAINER["volumeMounts"]}
    assert mounts[str(settings.storage.path)] == "data"
    (claim,) = STATEFUL_SET["spec"]["volumeClaimTemplates"]
    room = parse_bytes(claim["spec"]["resources"]["requests"]["storage"] + "B")
    assert settings.storage.bytes_max <= 0.8 * room
    memory = parse_bytes(CONTAINER["resources"]["limits"]["memory"] + "B")
    assert memory >= 2 * settings.memory.bytes_max
    assert CONTAINER["args"] == ["run", "--config", "/etc/relay/relay.yaml"]


def test_the_settings_with_an_api_are_those_of_the_base_and_it() -> None:
    base = yaml.safe_load((ROOT / BASE / "relay.yaml").read_text())
    more = yaml.safe_load((ROOT / COMPONENTS / "own-api/relay.yaml").read_text())
    values = yaml.safe_load((ROOT / CHART / "values.yaml").read_text())
    api = more.pop("api")
    assert more == base
    host = "relay-api.relay-system"
    assert api.pop("hostnames") == [host, f"{host}.svc", f"{host}.svc.cluster.local"]
    assert values["api"] == {
        "enabled": False,
        "settings": api,
        "secret": "relay-api",
        "secretKeys": ["tokens.yaml"],
    }
    (service,) = documents(ROOT / COMPONENTS / "own-api/service.yaml")
    assert service["metadata"]["name"] == host.partition(".")[0]
    assert service["spec"]["selector"] == LABELS
    port = int(api["listen"].rpartition(":")[2])
    assert f"EXPOSE 9490 9491 {port}\n" in (ROOT / "Dockerfile").read_text()


def test_probes_ask_what_they_mean() -> None:
    probes = {
        name: CONTAINER[name]["httpGet"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert {probe["port"] for probe in probes.values()} == {"admin"}
    paths = {name: probe["path"] for name, probe in probes.items()}
    # A replay makes the relay not ready, and must not make it be killed.
    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }


def test_the_pod_is_unprivileged_and_limited() -> None:
    security = POD["securityContext"]
    assert security["runAsNonRoot"] is True
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}\n" in dockerfile
    assert security["fsGroup"] == security["runAsGroup"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(CONTAINER["resources"]["limits"]) == {"cpu", "memory"}


def test_the_sidecar_is_reached_by_its_own_pod_alone() -> None:
    settings = load_settings(SIDECAR / "relay.yaml")
    assert settings.listen.host == "127.0.0.1"
    assert settings.kubernetes is not None
    assert settings.storage is not None
    (patch,) = documents(SIDECAR / "vmagent.yaml")
    (vmagent,) = patch["spec"]["template"]["spec"]["containers"]
    assert f"-remoteWrite.url=http://{settings.listen}/api/v1/write" in vmagent["args"]
    assert re.search(r":v\d", vmagent["image"]), "images are pinned"
    steps = yaml.safe_load((SIDECAR / "relay-first.yaml").read_text())
    assert {"op": "add", "path": "/spec/template/spec/initContainers/0/restartPolicy",
            "value": "Always"} in steps  # fmt: skip


# The chart's values.


def test_every_value_is_in_the_schema() -> None:
    values = yaml.safe_load((ROOT / CHART / "values.yaml").read_text())
    schema = json.loads((ROOT / CHART / "values.schema.json").read_text())

    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        if "properties" not in schema or schema.get("additionalProperties") is not False:
            return
        assert values.keys() | {"global"} == schema["properties"].keys() | {"global"}, path
        for name, value in values.items():
            if isinstance(value, dict):
                compare(value, schema["properties"][name], f"{path}.{name}")

    compare(values, schema, "values")


def test_the_settings_of_values_are_those_of_the_base() -> None:
    values = yaml.safe_load((ROOT / CHART / "values.yaml").read_text())
    settings = {**values["settings"], "kubernetes": values["kubernetes"]["settings"]}
    assert settings == yaml.safe_load((ROOT / BASE / "relay.yaml").read_text())
