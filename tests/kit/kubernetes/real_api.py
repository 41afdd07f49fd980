"""A real kube-apiserver on etcd, on loopback; both end with the block.

Built by ``make peers``, as are two kubectl. Debian's etcd is too old for streaming lists: they are
refused. No controller runs: nothing is collected, and a namespace stays in "Terminating".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from bench import newest
from tests.kit.processes import Process, binary, eventually, free_port, started

TOKEN = "token-of-the-admin"
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


def new_etcd() -> str:
    """Path of an etcd with which the API server has streaming lists."""
    return str(newest.binary("etcd"))


def debian_etcd() -> str:
    """Path of Debian's etcd, which has none."""
    return binary("etcd", "etcd-server")


class RealApi:
    """A running API server; ``kubeconfig`` leads to it. It can be stopped and started again."""

    def __init__(self, folder: Path, etcd: str) -> None:
        self.folder = folder
        self.options = ("--authorization-mode=AlwaysAllow",)
        self._etcd = etcd
        self.kubeconfig = folder / "kubeconfig"
        self.port = free_port()
        self._etcd_port = free_port()
        self._server: AsyncExitStack | None = None
        self.process: Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Make keys, tokens and the kubeconfig."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.folder / "sa.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        (self.folder / "sa.pub").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (self.folder / "tokens.csv").write_text(f'{TOKEN},admin,1,"system:masters"\n')
        cluster = {
            "server": self.url,
            # The server makes its certificate itself when it starts first.
            "certificate-authority": "certs/apiserver.crt",
            "tls-server-name": "127.0.0.1",
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
            "current-context": "local",
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    @asynccontextmanager
    async def etcd(self) -> AsyncIterator[None]:
        """Run etcd for the duration of the block; on other ports where these were taken."""
        async with AsyncExitStack() as stack:
            for attempts_left in (2, 1, 0):
                try:
                    await stack.enter_async_context(self._etcd_started())
                    break
                except AssertionError as error:
                    if "address already in use" not in str(error) or not attempts_left:
                        raise
                    self._etcd_port = free_port()
            yield

    @asynccontextmanager
    async def _etcd_started(self) -> AsyncIterator[None]:
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{free_port()}"
        command = [self._etcd, "--data-dir", str(self.folder / "etcd")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--log-level", "error", "--unsafe-no-fsync"]
        log = self.folder / "etcd.log"
        async with started(command, log=log, ready_url=f"{client}/health"):
            yield

    async def start(self) -> None:
        """Start the API server, with the objects that it had."""
        folder = self.folder
        command = [
            str(newest.binary("kube-apiserver")),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--service-account-issuer=https://local",
            f"--service-account-key-file={folder / 'sa.pub'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            *self.options,
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder / 'certs'}",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.0.0.0/24",
        ]
        stack = AsyncExitStack()
        log = folder / "api.log"
        # With Go's own 100, a quarter of what the server costs is collecting garbage.
        self.process = await stack.enter_async_context(started(command, log=log, GOGC="400"))
        self._server = stack
        await eventually("kube-apiserver is ready", self._is_ready, timeout_s=90)

    async def start_anew(self) -> None:
        """Start the API server for the first time; on another port where its own was taken."""
        for attempts_left in (2, 1, 0):
            self.prepare()
            try:
                await self.start()
            except AssertionError as error:
                if "address already in use" not in str(error) or not attempts_left:
                    raise
                await self.stop()
                self.port = free_port()
            else:
                return

    async def stop(self) -> None:
        """Kill the API server; etcd goes on."""
        if self._server is not None:
            await self._server.aclose()
            self._server = None

    async def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.process.text()[-2000:]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(f"{self.url}/readyz", ssl=False) as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def real_api(folder: Path, *, etcd: str = "", roles: bool = False) -> AsyncIterator[RealApi]:
    """Run etcd, the newest or another one, and kube-apiserver for the duration of the block.

    With ``roles``, accounts may do what their roles allow, and ``audit.log`` in the folder has
    their requests.
    """
    api = RealApi(folder, etcd or new_etcd())
    if roles:
        policy = folder / "audit.yaml"
        policy.write_text(yaml.safe_dump(_AUDIT))
        api.options = (
            "--authorization-mode=RBAC",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={folder / 'audit.log'}",
        )
    async with api.etcd():
        try:
            await api.start_anew()
            yield api
        finally:
            await api.stop()
