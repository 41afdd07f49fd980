"""The relay with the rights that its deployment gives it, and what it uses of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import yaml

from build_support.deployments import CLUSTER, FINALIZER, OWN_NAMESPACE, SECRETS, Permission
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.real_api import RealApi, real_api
from tests.kit.kubernetes.rendering import Cluster, kustomized
from tests.kit.processes import Process, eventually, relay, whole_lines
from tests.kit.remote_write.raw import HEADERS
from tests.kit.stored_relay import body_of

pytestmark = [pytest.mark.slow, pytest.mark.newest]

OBJECTS = """
apiVersion: v1
kind: Secret
metadata: {{name: token}}
stringData: {{token: "{token}"}}
---
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: one}}
spec:
  sources: [{{name: all, metrics: {{metricsql: '{{__name__="numbered"}}'}}}}]
  sinks:
    - name: there
      otlp_http:
        endpoint: "{endpoint}"
        authentication: {{type: bearerToken, secretRef: {{name: token, key: token}}}}
      batch: {{timeout: 20ms}}
"""
POLICY = """
apiVersion: telemetry.{group}/v1alpha1
kind: ExportPolicy
metadata: {{name: {name}}}
spec:
  sources: [{{name: all, metrics: {{metricsql: '{{__name__="numbered"}}'}}}}]
  sinks:
    - name: there
      sources: [all]
      target: {{openTelemetry: {{http: {{endpoint: "{endpoint}"}}}}}}
"""
SETTINGS = """
storage: {path: data}
translation: {firstSightWait: 0s}
kubernetes: {kubeconfig: kubeconfig, finalizer: FINALIZER}
allowPrivateEndpoints: true
"""

Use = tuple[str, str, str]
"""Group, resource with its subresource, verb."""


@dataclass
class Rights:
    """An API server, and the account of the relay as its deployment makes it."""

    api: RealApi
    cluster: Cluster

    async def kubectl(self, *arguments: str, given: str = "") -> str:
        """Run kubectl as the operator, while the endpoints go on."""
        return await asyncio.to_thread(self.cluster, *arguments, given=given)

    def configure(self, folder: Path, *, finalizer: bool) -> list[str]:
        """Write settings and the account's kubeconfig; return the arguments."""
        token = self.cluster("-n", "relay-system", "create", "token", "relay").strip()
        document = yaml.safe_load(self.api.kubeconfig.read_text())
        document["users"][0]["user"] = {"token": token}
        authority = document["clusters"][0]["cluster"]
        authority["certificate-authority"] = str(self.api.folder / "certs/apiserver.crt")
        (folder / "kubeconfig").write_text(yaml.safe_dump(document))
        settings = SETTINGS.replace("FINALIZER", str(finalizer).lower())
        (folder / "relay.yaml").write_text(settings)
        return ["--config", str(folder / "relay.yaml")]

    def used(self) -> dict[Use, set[int]]:
        """What the relay's account asked for, and the codes of the answers."""
        found: dict[Use, set[int]] = {}
        for line in whole_lines(self.api.folder / "audit.log"):
            event = json.loads(line)
            if "objectRef" not in event:
                continue  # discovery, which every account may read
            about = event["objectRef"]
            resource = "/".join(filter(None, (about["resource"], about.get("subresource", ""))))
            use = (about.get("apiGroup", ""), resource, event["verb"])
            found.setdefault(use, set()).add(event["responseStatus"]["code"])
        return found


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Directories of the API server and of a relay, which finds itself in a pod's namespace."""
    monkeypatch.setenv("POD_NAMESPACE", "relay-system")
    for name in ("api", "relay"):
        (tmp_path / name).mkdir()
    return tmp_path / "api", tmp_path / "relay"


@asynccontextmanager
async def rights(folder: Path, *components: str) -> AsyncIterator[Rights]:
    """Run an API server with definitions, account and roles of a deployment."""
    async with real_api(folder, roles=True) as api:
        cluster = Cluster(api.kubeconfig)
        cluster("apply", "--server-side", "-k", "config/crds")
        cluster("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        wanted = [
            one
            for one in kustomized("kubernetes/base", *components)
            if one["kind"] in ("Namespace", "ServiceAccount") or "Role" in one["kind"]
        ]
        cluster("apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(wanted))
        yield Rights(api, cluster)


def uses_of(*permissions: Permission) -> set[Use]:
    """Everything that permissions allow."""
    return {
        (group, resource, verb)
        for one in permissions
        for group in one.groups
        for resource in one.resources
        for verb in one.verbs
    }


async def deliver(url: str, server: OtlpServer, values: range, token: str) -> None:
    """Send samples, and wait until they arrive with a token."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body_of(values), headers=HEADERS) as answer,
    ):
        assert answer.status == 204

    def arrived() -> bool:
        found = {
            value
            for request in server.taken
            if request.headers.get("Authorization") == f"Bearer {token}"
            for value in request.values()
        }
        return set(map(float, values)) <= found

    await eventually("everything arrives", arrived, timeout_s=30)


async def runs_with(
    right: Rights, folder: Path, server: OtlpServer, *, finalizer: bool = False
) -> Process:
    """Run the relay on an Exporter and its Secret, both changed while it runs."""
    endpoint = server.url.removesuffix("/v1/metrics")
    objects = [OBJECTS.format(endpoint=endpoint, token="first")]
    objects += [
        POLICY.format(group=f"{name}apis.com", name=name, endpoint=endpoint)
        for name in ("datum", "milo")
    ]
    await right.kubectl("apply", "--server-side", "-f", "-", given="---".join(objects))
    async with relay(folder, *right.configure(folder, finalizer=finalizer)) as (process, url, _):
        await deliver(url, server, range(100), "first")
        for kind, name in (
            ("exporter", "one"),
            ("exportpolicies.telemetry.datumapis.com", "datum"),
            ("exportpolicies.telemetry.miloapis.com", "milo"),
        ):
            wanted = ("wait", "--for=condition=Delivering", f"{kind}/{name}", "--timeout=60s")
            await right.kubectl(*wanted)
        seen = ("get", "events", "-o", "jsonpath={.items[*].involvedObject.name}")
        await eventually("an Event", lambda: _told(right, *seen), timeout_s=60)
        await process.stop()
    return process


async def _told(right: Rights, *arguments: str) -> bool:
    return "one" in (await right.kubectl(*arguments)).split()


async def test_the_rights_are_enough(folders: tuple[Path, Path]) -> None:
    async with rights(folders[0]) as right, OtlpServer() as server:
        process = await runs_with(right, folders[1], server)
        used = right.used()
        refused = {use for use, codes in used.items() if 403 in codes}
        assert not refused, process.text()
        allowed = uses_of(*CLUSTER, SECRETS["watch"], *OWN_NAMESPACE)
        assert used.keys() <= allowed
        # Lists are for servers that cannot stream them, and an Event is patched when it recurs.
        assert {
            use for use in allowed - used.keys() if use[2] != "list" and use[:2] != ("", "events")
        } == set()


async def test_secrets_are_read_by_get_alone_where_they_may_not_be_listed(
    folders: tuple[Path, Path],
) -> None:
    async with rights(folders[0], "secrets-by-get") as right, OtlpServer() as server:
        process = await runs_with(right, folders[1], server)
        used = right.used()
        refused = {use for use, codes in used.items() if 403 in codes}
        assert refused <= {("", "secrets", "list"), ("", "secrets", "watch")}, process.text()
        assert used["", "secrets", "get"] <= {200, 404}


async def test_the_component_of_the_finalizer_gives_the_right_to_it(
    folders: tuple[Path, Path],
) -> None:
    async with rights(folders[0], "finalizer") as right, OtlpServer() as server:
        process = await runs_with(right, folders[1], server, finalizer=True)
        used = right.used()
        refused = {use for use, codes in used.items() if 403 in codes}
        assert not refused, process.text()
        assert uses_of(*FINALIZER) <= used.keys()


async def test_without_the_right_to_the_finalizer_all_else_works(
    folders: tuple[Path, Path],
) -> None:
    async with rights(folders[0]) as right, OtlpServer() as server:
        process = await runs_with(right, folders[1], server, finalizer=True)
        used = right.used()
        refused = {use for use, codes in used.items() if 403 in codes}
        assert refused
        assert refused <= uses_of(*FINALIZER), process.text()
        assert process.text().count("finalizers cannot be added") == 1
