"""A whole relay with an API, as a process, and its users with kubectl."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER, tokens
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import VERSIONS, Kubectl, object_text
from tests.kit.kubernetes.relays import Load
from tests.kit.processes import free_port, relay

SECRET = object_text("Secret", "tok", {"stringData": {"token": "s3cret"}}, api="v1")
NEIGHBOUR = "token-of-the-neighbour"
_USERS = [
    {"token": ADMIN, "user": "admin", "projects": ["acme"], "role": "admin"},
    {"token": EDITOR, "user": "editor", "projects": ["acme"], "role": "editor"},
    {"token": VIEWER, "user": "viewer", "projects": ["acme"], "role": "viewer"},
    {"token": NEIGHBOUR, "user": "neighbour", "projects": ["globex"], "role": "admin"},
]


def exporter_text(name: str, endpoint: str) -> str:
    """An Exporter whose sink needs the Secret."""
    http = {
        "endpoint": endpoint,
        "authentication": {"type": "bearerToken", "secretRef": {"name": "tok"}},
    }
    spec = {
        "sources": [{"name": "some", "metrics": {"metricsql": "numbered"}}],
        "sinks": [{"name": "collector", "otlp_http": http, "batch": {"timeout": "100ms"}}],
    }
    return object_text("Exporter", name, {"spec": spec}, api="telemetry.datumapis.com/v1alpha1")


def configure(folder: Path, **more: Any) -> Path:
    """Write settings with an API, and its users."""
    (folder / "tokens.yaml").write_text(yaml.safe_dump(tokens()))
    settings = {
        "storage": {"path": "data"},
        "translation": {"firstSightWait": "0s"},
        "api": {
            "listen": f"127.0.0.1:{free_port()}",
            "authentication": {"type": "tokens", "file": "tokens.yaml"},
        },
        **more,
    }
    file = folder / "relay.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


async def kubeconfig_of(config: Path, token: str, project: str = "") -> bytes:
    """What ``relay kubeconfig`` prints for a user."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "kubeconfig", "--config", str(config)),
        *(("--project", project) if project else ()),
        *("--token", token),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


def written(file: Path, content: bytes) -> Path:
    """A file with this content; its folder is made."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return file


async def kubectl_of(config: Path, folder: Path, token: str, version: str) -> Kubectl:
    """kubectl of a user of a relay without tenancy; the folder is made."""
    kubeconfig = await kubeconfig_of(config, token)
    return Kubectl(written(folder / "kubeconfig", kubeconfig), folder, version)


@dataclass
class ProjectsRelay:
    """A relay with series of acme and globex; ``server`` takes what its sinks send."""

    folder: Path
    config: Path
    server: OtlpServer
    admin: str

    async def kubeconfig(self, token: str, project: str = "acme") -> Path:
        """A kubeconfig for a user."""
        kubeconfig = await kubeconfig_of(self.config, token, project)
        return written(self.folder / f"{token}.kubeconfig", kubeconfig)

    async def kubectl(self, token: str, version: str, project: str = "acme") -> Kubectl:
        """kubectl of a user."""
        folder = self.folder / f"{token}-{version}"
        folder.mkdir(exist_ok=True)
        return Kubectl(await self.kubeconfig(token, project), folder, version)


@asynccontextmanager
async def projects_relay(folder: Path, **more: Any) -> AsyncIterator[ProjectsRelay]:
    """Run a relay with tenancy; both projects send series all the time."""
    more |= {"tenancy": {"label": "tenant"}, "allowPrivateEndpoints": True}
    config = configure(folder, **more)
    (folder / "tokens.yaml").write_text(yaml.safe_dump(_USERS))
    async with OtlpServer() as server, relay(folder, "--config", str(config)) as one:
        process, url, admin = one
        found = ProjectsRelay(folder, config, server, admin)
        async with AsyncExitStack() as stack:
            for tenant in ("acme", "globex"):
                await stack.enter_async_context(Load(url, tenant=tenant).running())
            other = await found.kubectl(NEIGHBOUR, VERSIONS[-1], "globex")
            await other.apply(SECRET, exporter_text("secretive", server.origin))
            yield found
        assert await process.stop() == 0
