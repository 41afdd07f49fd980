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

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import yaml

from relay.apiserver.access.certificates import CA_FILE
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.real_api import TOKEN, RealApi, real_api
from tests.kit.kubernetes.relays import ClusterRelay, RelayProcess, cluster_relay, define
from tests.kit.processes import free_port

KUBERNETES = "kube-apiserver"
OWN = "own API"
OWN_READ = "own API of another relay"
SERVERS = (KUBERNETES, OWN)


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

    def __init__(self, folder: Path, *, is_read: bool) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self._is_read = is_read
        self._port = free_port()
        self._process = RelayProcess(folder, **self._settings())
        user = {"token": TOKEN, "user": "admin", "role": "admin", "secrets": "read"}
        (folder / "tokens.yaml").write_text(yaml.safe_dump([user]))
        ca = f"data/api-pki/{CA_FILE}"
        document = {
            "clusters": [
                {"name": "own", "cluster": {"server": self.url, "certificate-authority": ca}}
            ],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "own", "context": {"cluster": "own", "user": "admin"}}],
            "current-context": "own",
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    def _settings(self) -> dict[str, Any]:
        authentication = {"type": "tokens", "file": "tokens.yaml"}
        return {"api": {"listen": f"127.0.0.1:{self._port}", "authentication": authentication}}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start it, with the objects that it had."""
        await self._process.start()

    async def stop(self) -> None:
        """Kill it."""
        await self._process.close()

    @asynccontextmanager
    async def relay(self, folder: Path, **settings: Any) -> AsyncIterator[RelayProcess]:
        """Run the relay that runs the objects: another one, or this one with settings."""
        if self._is_read:
            async with cluster_relay(folder, self.kubeconfig, **settings) as relay:
                yield relay
            return
        process = self._process
        assert await process.stop() == 0
        process.configure(**self._settings(), **settings)
        await process.start()
        yield process
        process.check_log()

    async def close(self) -> None:
        """End it; it must not have found a bug in itself."""
        await self._process.close()
        self._process.check_log()


@asynccontextmanager
async def object_server(name: str, folder: Path) -> AsyncIterator[ObjectServer]:
    """Run a server of :data:`SERVERS` for the duration of the block."""
    if name == KUBERNETES:
        async with real_api(folder) as api:
            await define(Kubectl(api.kubeconfig, folder))
            yield ClusterServer(api)
        return
    own = OwnServer(folder, is_read=name == OWN_READ)
    try:
        await own.start()
        yield own
    finally:
        await own.close()
