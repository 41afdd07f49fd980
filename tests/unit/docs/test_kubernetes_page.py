"""docs/kubernetes.md says what the code and the deployments say."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

import relay
from build_support.deployments import CHART, CLUSTER, OWN_NAMESPACE, SECRETS
from relay.config.settings.settings import load_settings
from relay.control.status.conditions import TYPES
from tests.kit.documents import all_blocks
from tests.kit.paths import ROOT

PAGE = ROOT / "docs/kubernetes.md"
TEXT = PAGE.read_text(encoding="utf-8")
STATUS = sorted((ROOT / "relay/control").rglob("*.py"))
FILES = {
    found[1]: block.text
    for block in all_blocks("text")
    if block.path == PAGE and (found := re.match(r"# (\S+)\n", block.text))
}


def section(title: str) -> str:
    """The text below a heading."""
    return TEXT.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(title: str) -> list[list[str]]:
    """The rows of the tables of a section, head included."""
    lines = (line for line in section(title).splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def constants() -> dict[str, object]:
    """The annotated constants of all modules, by name."""
    return {
        node.target.id: node.value.value
        for path in (ROOT / "relay").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
    }


def reasons_in(path: Path, names: dict[str, object]) -> set[tuple[str, str]]:
    """Status and reason of every verdict that a module makes; of a problem, the status is False."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def text(node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return str(names.get(node.id, ""))
        return str(node.value) if isinstance(node, ast.Constant) else ""

    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called == "ConditionVerdict" and len(node.args) > 1:
            found.add((text(node.args[0]), text(node.args[1])))
        elif called == "Problem":
            found.add(("False", text(node.args[0])))
    return {(status, reason) for status, reason in found if status and reason}


def test_every_reason_is_in_the_table() -> None:
    told = {(row[1], row[2].strip("`")) for row in rows("Status") if len(row) == 4}
    names = constants()
    made = set().union(*(reasons_in(path, names) for path in STATUS))
    assert len(made) > 10
    assert made <= told, "say what to do"


def test_every_condition_is_in_the_table() -> None:
    told = {row[0].strip("`") for row in rows("Status") if len(row) == 2}
    assert set(TYPES) <= told


def test_every_permission_is_in_the_table() -> None:
    told = {
        (frozenset(re.findall(r"`([^`]+)`", row[1])), tuple(row[2].split(", ")))
        for row in rows("Secrets and permissions")
    }
    by_resource: dict[frozenset[str], tuple[str, ...]] = {}
    for permission in (*CLUSTER, SECRETS["watch"], *OWN_NAMESPACE):
        by_resource[frozenset(permission.resources)] = permission.verbs
    for resources, verbs in by_resource.items():
        assert any(resources <= shown and verbs == words for shown, words in told), resources
    shown = frozenset().union(*(names for names, _ in told))
    assert shown == frozenset().union(*by_resource)


def test_files_on_the_page_are_good(tmp_path: Path) -> None:
    assert FILES.keys() == {"kustomization.yaml", "values.yaml", "relay.yaml", "restore-pod.yaml"}
    (tmp_path / "relay.yaml").write_text(FILES["relay.yaml"])
    settings = load_settings(tmp_path / "relay.yaml")
    assert settings.kubernetes is not None
    assert settings.kubernetes.projects is not None
    kustomization = yaml.safe_load(FILES["kustomization.yaml"])
    for name in (*kustomization["resources"], *kustomization["components"]):
        assert (ROOT / name / "kustomization.yaml").is_file(), name
    schema = json.loads((ROOT / CHART / "values.schema.json").read_text())
    assert yaml.safe_load(FILES["values.yaml"]).keys() <= schema["properties"].keys()


def test_the_pod_that_restores_is_like_the_relays() -> None:
    claim, pod = yaml.safe_load_all(FILES["restore-pod.yaml"])
    base = (ROOT / "config/kubernetes/base/workload.yaml").read_text()
    (relays,) = [one for one in yaml.safe_load_all(base) if one["kind"] == "StatefulSet"]
    (template,) = relays["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == f"{template['metadata']['name']}-relay-0"
    assert claim["spec"]["resources"] == template["spec"]["resources"]
    spec = relays["spec"]["template"]["spec"]
    security = {**spec["securityContext"]}
    security.pop("fsGroupChangePolicy")
    assert pod["spec"]["securityContext"] == security
    (container,) = pod["spec"]["containers"]
    assert container["image"] == f"telemetry-relay:{relay.__version__}"
    assert container["securityContext"] == spec["containers"][0]["securityContext"]


@pytest.mark.parametrize("setting", re.findall(r"`(kubernetes\.[A-Za-z.]+)`", TEXT))
def test_settings_on_the_page_exist(setting: str) -> None:
    values = yaml.safe_load((ROOT / CHART / "values.yaml").read_text())
    first, *rest = setting.split(".")
    if rest[0] in values[first]:
        return  # a value of the chart
    schema = json.loads((ROOT / "config/schema/settings.json").read_text())
    for name in (first, *rest):
        schema = schema["properties"][name]
