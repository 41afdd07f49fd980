"""What is shipped beside the code agrees with it: manifests, alerts, Makefile, dependencies."""

from __future__ import annotations

import ast
import configparser
import itertools
import json
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import relay
from relay.cli import main
from relay.cli.check import check
from relay.config.settings.settings import load_settings
from relay.runtime.quantity import parse_bytes

ROOT = Path(__file__).parents[2]
KUBERNETES = sorted((ROOT / "config/kubernetes").glob("*.yaml"))
REAL_PACKAGES = "victoria-metrics prometheus prometheus-node-exporter etcd-server curl chromium"

DISTRIBUTIONS = {
    "cramjam": "cramjam",
    "google.protobuf": "protobuf",
    "jsonschema_rs": "jsonschema-rs",
    "opentelemetry": "opentelemetry-proto",
    "prometheus_client": "prometheus-client",
    "re2": "google-re2",
    "yaml": "PyYAML",
}
"""Modules whose distribution has another name, or shares its top-level package with others."""


# Dependencies.


def imported_distributions(package: str) -> set[str]:
    """Third-party distributions that the modules of a package import, and the tests' kit for it."""
    waiting = sorted((ROOT / package).rglob("*.py"))
    seen, found = set(waiting), set()
    while waiting:
        for name in imported_names(waiting.pop()):
            found.add(distribution_of(name))
            kit = (ROOT / name.replace(".", "/")).with_suffix(".py")
            if name.startswith("tests.") and kit.is_file() and kit not in seen:
                seen.add(kit)
                waiting.append(kit)
    return found - {""}


def imported_names(path: Path) -> Iterator[str]:
    """What a module imports, and of what it imports from a package the modules."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def distribution_of(module: str) -> str:
    """The distribution that a module comes from; "" for our own and the standard library's."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("relay", "bench", "tests"):
        return ""
    for prefix, distribution in DISTRIBUTIONS.items():
        if f"{module}.".startswith(f"{prefix}."):
            return distribution
    return top


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0] for requirement in requirements}


def declared_dependencies() -> set[str]:
    return names_of(project()["dependencies"])


def test_dependencies_are_exactly_what_the_relay_imports() -> None:
    assert imported_distributions("relay") == declared_dependencies()


def test_the_benchmark_needs_only_a_picture_more_than_the_relay() -> None:
    more = imported_distributions("bench") - declared_dependencies()
    assert more == {"matplotlib"}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    assert more <= names_of(groups["dev"])


# Kubernetes.


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def pod_spec(path: Path) -> dict[str, Any]:
    spec: dict[str, Any] = stateful_set(path)["spec"]["template"]["spec"]
    return spec


def stateful_set(path: Path) -> dict[str, Any]:
    (found,) = [d for d in documents(path) if d["kind"] == "StatefulSet"]
    return found


def containers(path: Path) -> list[dict[str, Any]]:
    spec = pod_spec(path)
    return [*spec.get("initContainers", []), *spec["containers"]]


def relay_container(path: Path) -> dict[str, Any]:
    (container,) = [c for c in containers(path) if c["name"] == "relay"]
    return container


def mount_relay_volume(path: Path, target: Path) -> None:
    """Lay out the manifest's projected volume as kubelet would."""
    named = {(d["kind"], d["metadata"]["name"]): d for d in documents(path)}
    (volume,) = [v for v in pod_spec(path)["volumes"] if v["name"] == "relay"]
    for source in volume["projected"]["sources"]:
        ((kind, reference),) = source.items()
        if kind == "configMap":
            content = named["ConfigMap", reference["name"]]["data"]
        else:
            content = named["Secret", reference["name"]]["stringData"]
        for item in reference["items"]:
            file = target / item["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content[item["key"]], encoding="utf-8")


each_manifest = pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)


def test_both_ways_to_run_on_kubernetes_are_there() -> None:
    assert [path.stem for path in KUBERNETES] == ["sidecar", "standalone"]


@each_manifest
def test_manifest_names_every_object_and_its_application(path: Path) -> None:
    for document in documents(path):
        assert document["apiVersion"]
        assert document["kind"]
        assert document["metadata"]["name"]
        assert document["metadata"]["labels"]["app.kubernetes.io/name"]


@each_manifest
def test_mounted_settings_exporters_and_secrets_pass_the_check(path: Path, tmp_path: Path) -> None:
    mount_relay_volume(path, tmp_path)
    result = check([tmp_path / "relay.yaml"])
    assert result.faults == ()
    assert any("gateway-exporter" in line for line in result.lines)


@each_manifest
def test_what_was_acknowledged_is_on_a_volume_with_room_for_it(path: Path, tmp_path: Path) -> None:
    mount_relay_volume(path, tmp_path)
    storage = load_settings(tmp_path / "relay.yaml").storage
    assert storage is not None
    mounts = {one["mountPath"]: one["name"] for one in relay_container(path)["volumeMounts"]}
    (claim,) = stateful_set(path)["spec"]["volumeClaimTemplates"]
    assert mounts[str(storage.path)] == claim["metadata"]["name"]
    room = parse_bytes(claim["spec"]["resources"]["requests"]["storage"] + "B")
    assert storage.bytes_max <= 0.8 * room
    named = stateful_set(path)["spec"]["serviceName"]
    assert named in {d["metadata"]["name"] for d in documents(path) if d["kind"] == "Service"}


@each_manifest
def test_pod_outlives_the_drain(path: Path, tmp_path: Path) -> None:
    mount_relay_volume(path, tmp_path)
    settings = load_settings(tmp_path / "relay.yaml")
    assert pod_spec(path)["terminationGracePeriodSeconds"] > settings.shutdown.drain_timeout_s


@each_manifest
def test_ports_and_probes_meet_the_listeners(path: Path, tmp_path: Path) -> None:
    mount_relay_volume(path, tmp_path)
    settings = load_settings(tmp_path / "relay.yaml")
    container = relay_container(path)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["admin"] == settings.admin_listen.port
    assert settings.admin_listen.host == "0.0.0.0"
    assert ports.get("remote-write", settings.listen.port) == settings.listen.port
    probes = {
        name: container[name]["httpGet"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert {probe["port"] for probe in probes.values()} == {"admin"}
    assert probes["livenessProbe"]["path"] == "/healthz"
    assert probes["readinessProbe"]["path"] == "/readyz"


@each_manifest
def test_containers_are_limited_and_unprivileged(path: Path) -> None:
    pod = pod_spec(path)["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(path):
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@each_manifest
def test_secrets_hold_placeholders_only(path: Path) -> None:
    for document in documents(path):
        if document["kind"] == "Secret":
            assert set(document["stringData"].values()) == {"replace-me"}


@each_manifest
def test_image_is_of_this_version(path: Path) -> None:
    assert relay_container(path)["image"] == f"telemetry-relay:{relay.__version__}"
    for container in containers(path):
        assert re.search(r":v?\d", container["image"]), "images are pinned"


def test_anybody_who_can_reach_the_standalone_relay_has_to_authenticate(tmp_path: Path) -> None:
    mount_relay_volume(ROOT / "config/kubernetes/standalone.yaml", tmp_path)
    assert load_settings(tmp_path / "relay.yaml").ingest.authentication.type == "bearer"


def test_only_its_own_pod_reaches_the_sidecar(tmp_path: Path) -> None:
    path = ROOT / "config/kubernetes/sidecar.yaml"
    mount_relay_volume(path, tmp_path)
    address = load_settings(tmp_path / "relay.yaml").listen
    assert address.host == "127.0.0.1"
    (vmagent,) = [c for c in containers(path) if c["name"] == "vmagent"]
    assert f"-remoteWrite.url=http://{address}/api/v1/write" in vmagent["args"]
    assert relay_container(path)["restartPolicy"] == "Always", "that makes it a sidecar"


# systemd and the container image.


class UnitParser(configparser.RawConfigParser):
    """systemd's files: names are case-sensitive and may be repeated."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def test_unit_runs_reloads_and_drains() -> None:
    unit = UnitParser(strict=False)
    unit.read(ROOT / "config/systemd/relay.service", encoding="utf-8")
    service = unit["Service"]
    _, *arguments = shlex.split(service["ExecStart"])
    assert parsed(arguments).config == Path("/etc/relay/relay.yaml")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillSignal"] == "SIGTERM"
    assert parsed(arguments).data == f"/var/lib/{service['StateDirectory']}"
    assert service.get("ProcSubset", "all") == "all", "process_* metrics read /proc/stat"
    drain_s = load_settings().shutdown.drain_timeout_s
    assert int(service["TimeoutStopSec"].removesuffix("s")) > drain_s
    assert service["User"] == "relay"
    for directive in ("NoNewPrivileges", "PrivateDevices", "ProtectKernelTunables", "ProtectHome"):
        assert service[directive] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""


def parsed(arguments: list[str]) -> Any:
    """The relay's own reading of a command line; wrong use exits."""
    return main._parser(arguments[0]).parse_args(arguments)


def dockerfile() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile and their arguments, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    instructions = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in instructions]


def test_image_is_built_in_stages_and_runs_without_root() -> None:
    instructions = dockerfile()
    bases = [rest.split()[0] for name, rest in instructions if name == "FROM"]
    assert bases == ["python:3.12-slim-bookworm"] * 2
    final = list(
        itertools.takewhile(lambda instruction: instruction[0] != "FROM", reversed(instructions))
    )
    arguments = dict(reversed(final))
    assert arguments["USER"] == "65532:65532", "the manifests' runAsUser"
    assert "/healthz" in arguments["HEALTHCHECK"]
    assert json.loads(arguments["ENTRYPOINT"]) == ["relay"]
    command = parsed(json.loads(arguments["CMD"]))
    assert command.listen == "0.0.0.0:9490"
    assert command.admin_listen == "0.0.0.0:9491"


def test_the_build_context_holds_what_is_copied() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for name, rest in dockerfile()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == kept


# Makefile and CI.


@pytest.mark.parametrize(
    "target",
    [
        *("venv", "demo", "test", "lint", "bench", "build", "wheels", "lock", "clean", "help"),
        *("peers", "test-newest", "test-lowest", "schema", "deployments"),
    ],
)
def test_makefile_has_the_target(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_lowest_versions_are_not_those_of_the_tools() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "test-lowest"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (command,) = re.findall(r"(sed .* requirements/dev.txt) ", done.stdout)
    kept = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = {line.partition("==")[0] for line in kept.splitlines()}
    assert {"pytest", "trustme"} <= names
    declared = {name.lower() for name in declared_dependencies()}
    assert names & declared == {"google-re2", "pyyaml"}, "their lowest have no wheel for 3.13"


def test_makefile_and_ci_name_the_same_packages() -> None:
    assert f"REAL_PACKAGES := {REAL_PACKAGES}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"packages=({REAL_PACKAGES})\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_ci_is_a_strict_script_that_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    for line in ("set -euo pipefail", "make venv", "make lint", "make test", "make demo"):
        assert line in text
    assert subprocess.run(["bash", "-n", script], check=False, timeout=30).returncode == 0


def test_changelog_has_a_section_for_what_comes_next() -> None:
    headings = re.findall(
        r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert headings[0] == "[Unreleased]"
