"""A customer's walk: three mistakes and then a working Exporter, seen through ``kubectl describe``.

``python -m tests.kit.kubernetes.walk`` writes docs/kubernetes-walk.md from a run; a test runs it
again and compares what is said.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.relays import Load
from tests.kit.kubernetes.servers import KUBERNETES, object_server
from tests.kit.paths import ROOT
from tests.kit.processes import eventually

DOCUMENT = ROOT / "docs/kubernetes-walk.md"

EXPORTER = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: gateway, namespace: shop}}
spec:
  sources:
    - name: gateways
      metrics: {{metricsql: '{selector}'}}
  sinks:
    - name: collector
      otlp_http:
        endpoint: {endpoint}
        authentication:
          type: bearerToken
          secretRef: {{name: collector, key: token}}
      batch: {{timeout: 1s}}
"""
RIGHT_SELECTOR = '{service_name="networking.datumapis.com"}'
WRONG_SELECTOR = '{service_name="network.datumapis.com"}'
LABELS = {"__name__": "network_bytes_sent_total", "service_name": "networking.datumapis.com"}

HEAD = (
    "What `kubectl describe` says while a customer gets an Exporter wrong three times and then "
    "right. It is made from a run against a real API server by "
    "`python -m tests.kit.kubernetes.walk`, and `tests/integration/kubernetes/test_walk.py` runs "
    "it again and compares what is said; times, ports and numbers are those of one run. "
    "[kubernetes.md](kubernetes.md) tells how to install the relay."
)


@dataclass(frozen=True)
class Step:
    """One mistake, or none: what is done, and the condition and Event that it leads to.

    ``dead``: nobody listens at the endpoint. ``finding`` explains what is said.
    """

    title: str
    selector: str
    token: str
    dead: bool
    status: str
    reason: str
    event: str
    finding: str


STEPS = (
    Step(
        "A wrong selector",
        WRONG_SELECTOR,
        "old",
        False,
        "Unknown",
        "NoData",
        "Normal Programmed",
        "The Exporter is accepted and runs, and nothing matches: `service_name` is misspelt. The "
        "next step is `relay preview`, or to correct the selector.",
    ),
    Step(
        "A wrong token",
        RIGHT_SELECTOR,
        "old",
        False,
        "False",
        "Failing",
        "Warning Failing",
        "The selector is right now, and the endpoint refuses the token. The message names the "
        "Secret and its key; what has matched meanwhile is kept.",
    ),
    Step(
        "A dead endpoint",
        RIGHT_SELECTOR,
        "right",
        True,
        "False",
        "Failing",
        "Warning Failing",
        "The Secret has the right token now, and the new endpoint has a typing error in its port.",
    ),
    Step(
        "Right",
        RIGHT_SELECTOR,
        "right",
        False,
        "True",
        "Delivering",
        "Normal Delivering",
        "What waited in the queue is delivered, and `kubectl wait --for=condition=Delivering` "
        "returns.",
    ),
)
DEAD = "http://127.0.0.1:9"
SHOWN = "http://127.0.0.1:4318"
SAME = {"Recovered": "Delivering"}


async def walk(folder: Path, version: str, server: str = KUBERNETES) -> list[str]:
    """Return what ``kubectl describe`` said of each step, with one of the API servers."""
    wanted = "Bearer right"

    def answer(received: Received) -> Reply:
        return Reply(200 if received.headers.get("Authorization") == wanted else 401)

    said = []
    (folder / "api").mkdir()
    async with object_server(server, folder / "api") as api, OtlpServer(answer) as collector:
        kubectl = Kubectl(api.kubeconfig, folder, version)
        await kubectl("create", "namespace", "shop")
        async with (
            api.relay(folder / "relay") as relay,
            Load(relay.url, **LABELS).running(),
        ):
            for step in STEPS:
                text = await _take(kubectl, step, DEAD if step.dead else collector.origin)
                said.append(text.replace(collector.origin, SHOWN))
    return said


async def _take(kubectl: Kubectl, step: Step, endpoint: str) -> str:
    """Take one step; return the description once it has the step's condition and Event."""
    secret = ("create", "secret", "generic", "collector", "-n", "shop", "--dry-run=client")
    made = await kubectl(*secret, f"--from-literal=token={step.token}", "-o", "yaml")
    text = EXPORTER.format(selector=step.selector, endpoint=endpoint)
    # A dead endpoint comes before its token, or the one before would get data for a moment.
    await kubectl.apply(*((text, "---", made) if step.dead else (made, "---", text)))
    name = ("exporter", "gateway", "-n", "shop")
    await kubectl.wait_for(*name, status=step.status, reason=step.reason, timeout_s=40)
    said = ""

    async def has_events() -> bool:
        nonlocal said
        said = await kubectl("describe", *name)
        return f"event {step.event}" in findings(said)

    try:
        await eventually(f"{step.title}: {step.event}", has_events, timeout_s=20)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{said[said.index('Status:') :]}") from None
    return said


def findings(described: str) -> list[str]:
    """Return what is said: the conditions' fields in order, then the events' types and reasons.

    Which error of a sink was the last one is a matter of moments, and left out; so is whether its
    first success counts as a recovery.
    """
    status, _, events = described[described.index("Status:\n") :].partition("\nEvents:")
    status = re.sub(r"Last Error:\n.*\n", "", status)
    fields = re.findall(r"^ +((?:Type|Status|Reason|Message):.*)$", status, re.MULTILINE)
    rows = re.findall(r"^  (Normal|Warning) +(\w+)", events, re.MULTILINE)
    return [
        *(" ".join(one.split()) for one in fields),
        *sorted({f"event {kind} {SAME.get(reason, reason)}" for kind, reason in rows}),
    ]


def document(said: list[str]) -> str:
    """Return the page that shows a walk."""
    parts = ["# A customer's walk\n", f"{_wrapped(HEAD)}\n"]
    for step, text in zip(STEPS, said, strict=True):
        endpoint = DEAD if step.dead else SHOWN
        manifest = EXPORTER.format(selector=step.selector, endpoint=endpoint)
        status = _normal(text[text.index("\nStatus:") + 1 :]).rstrip()
        parts += [
            f"## {step.title}\n",
            f"```yaml\n{manifest}```\n",
            "`kubectl describe exporter gateway -n shop`, from the status on:\n",
            f"```text\n{status}\n```\n",
            f"{_wrapped(step.finding)}\n",
        ]
    return "\n".join(parts)


def _normal(text: str) -> str:
    """Times of one day, and no trailing blanks."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:", "2026-12-01T10:00:", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _wrapped(text: str, width: int = 115) -> str:
    lines, line = [], ""
    for word in re.findall(r"(?:`[^`]*`|\S)+", text):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


async def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        DOCUMENT.write_text(document(await walk(Path(folder), "kubectl-1.37")))


if __name__ == "__main__":
    asyncio.run(main())
