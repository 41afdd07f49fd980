"""What kustomize and Helm make of the shipped deployments."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench import newest
from build_support.deployments import CHART
from tests.kit.paths import ROOT
from tests.own_time import crowding

KUBE_VERSION = "1.37.2"
MONITORING = ("monitoring.coreos.com/v1", "operator.victoriametrics.com/v1beta1")
"""API versions of the operators, whose definitions are not here."""

Objects = list[dict[str, Any]]


def kubectl() -> str:
    """Path of kubectl 1.37."""
    return str(newest.binary("kubectl-1.37"))


def run(command: Sequence[str], *, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program and return what it said, also if it failed."""
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=60 * crowding(),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": home},
        )


def objects(text: str) -> Objects:
    """Return the objects of a stream of YAML documents."""
    return [one for one in yaml.safe_load_all(text) if one]


def kustomized(folder: str, *components: str) -> Objects:
    """Render a folder below ``config``, with components of ``config/kubernetes/components``."""
    with tempfile.TemporaryDirectory() as overlay:

        def from_here(path: str) -> str:
            return os.path.relpath(ROOT / "config" / path, Path(overlay).resolve())

        document = {
            "resources": [from_here(folder)],
            "components": [from_here(f"kubernetes/components/{name}") for name in components],
        }
        (Path(overlay) / "kustomization.yaml").write_text(yaml.safe_dump(document))
        done = run([kubectl(), "kustomize", overlay])
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm, with nothing of the user's."""
    return run([str(newest.binary("helm")), *arguments])


def templated(values: dict[str, Any] | None = None, *, release: str = "relay") -> Objects:
    """Render the chart with values."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values or {}, file)
        file.flush()
        done = helm(
            *("template", release, CHART, "--namespace", "relay-system", "--include-crds"),
            *("--kube-version", KUBE_VERSION, "--values", file.name),
        )
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


class Cluster:
    """kubectl for an API server."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = str(kubeconfig)

    def __call__(self, *arguments: str, given: str = "") -> str:
        done = run([kubectl(), "--kubeconfig", self.kubeconfig, *arguments], given=given)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    def can(self, *arguments: str) -> bool:
        """Whether a command succeeds."""
        command = [kubectl(), "--kubeconfig", self.kubeconfig, *arguments]
        return run(command).returncode == 0

    def rights(self, namespace: str) -> dict[str, set[str]]:
        """Return what the relay's account may do in a namespace, verbs by resource and group.

        Left out is what every account may, such as to ask what it may.
        """
        every = self._rights(namespace, "another")
        mine = self._rights(namespace, "relay")
        return {name: verbs for name, verbs in mine.items() if every.get(name) != verbs}

    def _rights(self, namespace: str, name: str) -> dict[str, set[str]]:
        account = f"system:serviceaccount:relay-system:{name}"
        groups = ("system:serviceaccounts", "system:authenticated")
        told = self(
            *("auth", "can-i", "--list", f"--as={account}", "--namespace", namespace),
            *(f"--as-group={group}" for group in groups),
        )
        found = {}
        for line in told.splitlines()[1:]:
            named = re.fullmatch(r"(\S+) +\[\] +\[\] +\[(.*)\]", line.strip())
            if named is not None:
                found[named[1]] = set(named[2].split())
        return found
