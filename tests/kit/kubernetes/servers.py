"""API servers that one suite runs against: kube-apiserver, and the relay's own API.

=================  ==================================  =================================
name               serves the objects                  runs them
=================  ==================================  =================================
``KUBERNETES``     kube-apiserver with our CRDs        a relay beside it
``OWN``            the API of a relay                  the same relay
``OWN_READ``       the API of a relay                  another relay, which reads the API
=================  ==================================  =================================
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.kit.apiserver.running import AUTHORITY
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.real_api import TOKEN, RealApi, real_api
from tests.kit.kubernetes.relays import ClusterRelay, RelayProcess, cluster_relay, define
from tests.kit.processes import eventually, free_port

KUBERNETES = "kube-apiserver"
OWN = "own API"
OWN_READ = "own API of another relay"
SERVERS = (KUBERNETES, OWN, OWN_READ)


class ObjectServer(Protocol):
    """A running API server that knows our kinds. It can be stopped and started again."""

    folder: Path
    kubeconfig: Path
    is_own: bool
    """True for the relay's own API."""

    @property
    def url(self) -> str:
        """Where it listens."""

    async def start(self) -> None:
        """Start it again, with the objects that it had."""

    async def stop(self) -> None:
        """End it at once."""

    def relay(self, folder: Path, **settings: Any) -> AbstractAsyncContextManager[RelayProcess]:
        """Run the relay that runs its objects, for the duration of the block."""


class ClusterServer:
    """kube-apiserver, and relays beside it."""

    is_own = False

    def __init__(self, api: RealApi) -> None:
        self._api = api
        self.folder = api.folder
        self.kubeconfig = api.kubeconfig
        self.start = api.start
        self.stop = api.stop

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._api.url

    @asynccontextmanager
    async def relay(self, folder: Path, **settings: Any) -> AsyncIterator[ClusterRelay]:
        """Run a relay for the duration of the block."""
        async with cluster_relay(folder, self.kubeconfig, **settings) as relay:
            yield relay


class OwnServer:
    """A relay with an API, which runs the objects itself or leaves that to another one.

    Its user is an admin that reads Secrets with their values, as another relay has to.
    """

    is_own = True

    def __init__(
        self, folder: Path, *, is_read: bool, projects: Sequence[str] = (), **settings: Any
    ) -> None:
        """Take the projects that the user has, with tenancy, and more settings."""
        self.folder = folder
        self._is_read = is_read
        self._port = free_port()
        self._more = settings
        self.process = RelayProcess(folder, **self._settings())
        user: dict[str, Any] = {"token": TOKEN, "user": "admin", "role": "admin"}
        user["secrets"] = "read"
        if projects:
            user["projects"] = list(projects)
        (folder / "tokens.yaml").write_text(yaml.safe_dump([user]))
        self.kubeconfig = self.kubeconfig_of("")

    def kubeconfig_of(self, project: str) -> Path:
        """Write a kubeconfig that leads to a project, "" for the whole server."""
        place = f"{self.url}/projects/{project}" if project else self.url
        ca = f"data/{AUTHORITY}"
        document = {
            "clusters": [
                {"name": "own", "cluster": {"server": place, "certificate-authority": ca}}
            ],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "own", "context": {"cluster": "own", "user": "admin"}}],
            "current-context": "own",
        }
        file = self.folder / f"kubeconfig{project and f'-{project}'}"
        file.write_text(yaml.safe_dump(document))
        return file

    def _settings(self) -> dict[str, Any]:
        authentication = {"type": "tokens", "file": "tokens.yaml"}
        api = {"listen": f"127.0.0.1:{self._port}", "authentication": authentication}
        return {"api": api, **self._more}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start it, with the objects that it had."""
        await self.process.start()

    async def stop(self) -> None:
        """Kill it."""
        await self.process.close()

    @asynccontextmanager
    async def relay(self, folder: Path, **settings: Any) -> AsyncIterator[RelayProcess]:
        """Run the relay that runs the objects: another one, or this one with settings."""
        if self._is_read:
            async with cluster_relay(folder, self.kubeconfig, **settings) as relay:
                yield relay
            return
        process = self.process
        assert await process.stop() == 0
        process.configure(**self._settings(), **settings)
        await process.start()
        yield process
        process.check_log()

    async def close(self) -> None:
        """End it; it must not have found a bug in itself."""
        await self.process.close()
        self.process.check_log()


@asynccontextmanager
async def defined_api(folder: Path) -> AsyncIterator[RealApi]:
    """Run kube-apiserver with our CRDs for the duration of the block, in a folder that is made."""
    _made(folder)
    async with real_api(folder) as api:
        kubectl = Kubectl(api.kubeconfig, folder)
        await define(kubectl)

        async def is_served() -> bool:
            kinds = "exporters,exportpolicies"
            return (await kubectl.run("get", kinds, "--request-timeout=5s")).status == 0

        await eventually("our kinds are served", is_served, timeout_s=60)
        yield api


def _made(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


@asynccontextmanager
async def object_server(name: str, folder: Path) -> AsyncIterator[ObjectServer]:
    """Run a server of :data:`SERVERS` for the duration of the block."""
    if name == KUBERNETES:
        async with defined_api(folder) as api:
            yield ClusterServer(api)
        return
    own = OwnServer(folder, is_read=name == OWN_READ)
    try:
        await own.start()
        yield own
    finally:
        await own.close()
