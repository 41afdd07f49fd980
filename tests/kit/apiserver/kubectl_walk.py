"""A walk with kubectl, and its output made comparable between two API servers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kit.apiserver.kubectl_steps import STEPS
from tests.own_time import patience

EXPORTER = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata:
  name: acme
spec:
  sources:
    - name: all
      metrics: {metricsql: '{}'}
  sinks:
    - name: one
      otlp_http:
        endpoint: https://otlp.example.com
        timeout: 30s
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: tok}
stringData: {token: s3cret}
"""
EVENT = """\
apiVersion: v1
kind: Event
metadata: {name: one, namespace: team}
involvedObject:
  {apiVersion: telemetry.datumapis.com/v1alpha1, kind: Exporter, name: acme, namespace: team}
type: Warning
reason: Failing
message: it fails
count: 3
source: {component: tester}
firstTimestamp: "2026-01-01T00:00:00Z"
lastTimestamp: "2026-01-01T00:00:00Z"
"""
KUSTOMIZATION = """\
resources: [exporter.yaml]
namePrefix: front-
labels: [{pairs: {part: front}}]
"""
_LABELLED = "name: acme\n  labels: {app: prune}"
MANIFESTS = {
    "exporter.yaml": EXPORTER,
    "other.yaml": EXPORTER.replace("name: acme", "name: other"),
    "changed.yaml": EXPORTER.replace("30s", "20s"),
    "unknown.yaml": EXPORTER.replace("spec:", "spec:\n  bogus: 1").replace("acme", "other"),
    "twice.yaml": EXPORTER.replace("timeout: 30s", "timeout: 30s\n        timeout: 20s").replace(
        "acme", "other"
    ),
    "generated.yaml": EXPORTER.replace("name: acme", "generateName: acme-"),
    "secret.yaml": SECRET,
    "changed-secret.yaml": SECRET.replace("s3cret", "other"),
    "kept.yaml": EXPORTER.replace("name: acme", _LABELLED.replace("acme", "kept")),
    "pruned.yaml": "---\n".join(
        EXPORTER.replace("name: acme", _LABELLED.replace("acme", name)) for name in ("kept", "gone")
    ),
    "event.yaml": EVENT,
    "kustomized/exporter.yaml": EXPORTER,
    "kustomized/kustomization.yaml": KUSTOMIZATION,
}


EDITOR = "sed -i -e s/30s/40s/ -e s/b3RoZXI=/bmV4dA==/ -e s/KioqKg==/bmV4dA==/"
"""Changes a timeout, and a value of a Secret, or the mask that is shown in its place."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one command printed, and how it ended."""

    command: str
    code: int
    output: str


async def walk(kubectl: str, kubeconfig: Path, folder: Path) -> list[Said]:
    """Run every step; the folder holds manifests and kubectl's cache."""
    (folder / "kustomized").mkdir()
    for name, text in MANIFESTS.items():
        (folder / name).write_text(text)
    return [await _run(kubectl, kubeconfig, folder, step) for step in STEPS]


async def _run(kubectl: str, kubeconfig: Path, folder: Path, step: Sequence[str]) -> Said:
    process = await asyncio.create_subprocess_exec(
        kubectl,
        f"--kubeconfig={kubeconfig}",
        f"--cache-dir={folder / 'cache'}",
        *step,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "EDITOR": EDITOR},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with patience(30):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"kubectl does not end: {' '.join(step)}") from None
    assert process.returncode is not None
    return Said(" ".join(step), process.returncode, comparable_output(output.decode()))


_DIFFERING = (
    (re.compile(r"(LIVE|MERGED)-\d+"), r"\1"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z| \+0000)?"), "TIME"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}"), "UID"),
    (re.compile(r'((resourceVersion"?: "|Resource Version: +))\d+'), r"\1N"),
    # In a column of its own: "timeout: 30s" is compared.
    (re.compile(r" {3,}(\d+[dhms]){1,2} {3,}(?=\S)"), "   AGE   "),
    (re.compile(r" {3,}(\d+[dhms]){1,2} *$", re.MULTILINE), "   AGE"),
    (re.compile(r"Edit cancelled[^\n]*"), "edit cancelled"),
)


def comparable_output(text: str) -> str:
    """Output without times, ages, uids and versions."""
    for pattern, word in _DIFFERING:
        text = pattern.sub(word, text)
    return text
