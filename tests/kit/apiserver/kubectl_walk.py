"""A walk with kubectl, and its output made comparable between two API servers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
LIFE = "-o=jsonpath={.metadata.generation} {.spec.sinks[0].otlp_http.timeout}"

STEPS: tuple[tuple[str, ...], ...] = (
    ("api-resources", "--api-group=telemetry.datumapis.com"),
    ("apply", "-f", "exporter.yaml"),
    ("apply", "-f", "exporter.yaml"),
    ("get", "exporters"),
    ("get", "exp", "-o", "wide"),
    ("get", "exp", "acme", "-o", "name"),
    ("diff", "-f", "changed.yaml"),
    ("apply", "-f", "changed.yaml"),
    ("get", "exporter", "acme", LIFE),
    ("apply", "--server-side", "-f", "exporter.yaml"),
    ("apply", "--server-side", "--force-conflicts", "-f", "exporter.yaml"),
    ("apply", "--server-side", "--field-manager=other", "-f", "changed.yaml"),
    ("patch", "exporter", "acme", "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}'),
    (
        "patch",
        "exporter",
        "acme",
        "--type=json",
        "-p",
        '[{"op":"add","path":"/metadata/labels/c","value":"d"}]',
    ),
    ("patch", "exporter", "acme", "--type=strategic", "-p", '{"metadata":{"labels":{"a":"b"}}}'),
    ("label", "exporter", "acme", "team=x"),
    ("annotate", "exporter", "acme", "note=y"),
    ("get", "exporters", "-l", "team in (x,y),a", "-o", "name"),
    ("get", "exporters", "--field-selector", "metadata.name=acme", "-o", "name"),
    ("apply", "--dry-run=server", "-f", "changed.yaml"),
    ("apply", "--validate=warn", "--dry-run=server", "-f", "unknown.yaml"),
    ("create", "-f", "exporter.yaml"),
    ("create", "--validate=strict", "-f", "unknown.yaml"),
    ("replace", "-f", "exporter.yaml"),
    ("edit", "exporter", "acme"),
    ("get", "exporter", "acme", LIFE),
    ("explain", "exporter.spec.sinks.retry"),
    ("explain", "exporter.spec.sources", "--recursive"),
    ("explain", "secret.data"),
    ("apply", "-f", "secret.yaml"),
    ("get", "secret", "tok"),
    ("get", "secret", "tok", "-o=jsonpath={.type}"),
    ("apply", "--server-side", "--force-conflicts", "-f", "secret.yaml"),
    ("create", "secret", "generic", "made", "--from-literal=a=b"),
    ("create", "secret", "generic", "made", "--from-literal=a=b"),
    ("create", "namespace", "team"),
    ("get", "namespace", "team", "-o=jsonpath={.status.phase}"),
    ("-n", "team", "apply", "-f", "exporter.yaml"),
    ("get", "exporters", "-A", "-o", "name"),
    ("-n", "team", "describe", "exporter", "acme"),
    (
        "patch",
        "exporter",
        "acme",
        "--type=merge",
        "-p",
        '{"metadata":{"finalizers":["x.example/f"]}}',
    ),
    ("delete", "exporter", "acme", "--wait=false"),
    ("get", "exporter", "acme", "-o=jsonpath={.metadata.finalizers}"),
    ("patch", "exporter", "acme", "--type=merge", "-p", '{"metadata":{"finalizers":null}}'),
    ("get", "exporter", "acme"),
    ("wait", "--for=delete", "exporter/acme", "--timeout=5s"),
    ("delete", "-f", "secret.yaml"),
    ("delete", "secret", "made"),
    ("-n", "team", "delete", "exporters", "--all"),
    ("-n", "team", "get", "exporters"),
    ("get", "events"),
    ("get", "nosuch"),
    ("get", "--raw", "/healthz"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """What one command printed, and how it ended."""

    command: str
    code: int
    output: str


async def walk(kubectl: str, kubeconfig: Path, folder: Path) -> list[Said]:
    """Run every step; the folder holds manifests and kubectl's cache."""
    (folder / "exporter.yaml").write_text(EXPORTER)
    (folder / "changed.yaml").write_text(EXPORTER.replace("30s", "20s"))
    (folder / "unknown.yaml").write_text(
        EXPORTER.replace("spec:", "spec:\n  bogus: 1").replace("name: acme", "name: other")
    )
    (folder / "secret.yaml").write_text(SECRET)
    return [await _run(kubectl, kubeconfig, folder, step) for step in STEPS]


async def _run(kubectl: str, kubeconfig: Path, folder: Path, step: Sequence[str]) -> Said:
    process = await asyncio.create_subprocess_exec(
        kubectl,
        f"--kubeconfig={kubeconfig}",
        f"--cache-dir={folder / 'cache'}",
        *step,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "EDITOR": "sed -i s/30s/40s/"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return Said(" ".join(step), process.returncode, comparable_output(output.decode()))


_DIFFERING = (
    (re.compile(r"(LIVE|MERGED)-\d+"), r"\1"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z| \+0000)?"), "TIME"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}"), "UID"),
    (re.compile(r'((resourceVersion: "|Resource Version: +))\d+'), r"\1N"),
    (re.compile(r" +\d+s *$", re.MULTILINE), " AGE"),
    (re.compile(r"Edit cancelled[^\n]*"), "edit cancelled"),
)


def comparable_output(text: str) -> str:
    """Output without times, ages, uids and versions."""
    for pattern, word in _DIFFERING:
        text = pattern.sub(word, text)
    return text
