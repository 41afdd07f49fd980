"""The API in this process, and as a process of its own."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from yarl import URL

from relay.apiserver.access.certificates import CA_FILE
from relay.apiserver.access.limits import ApiLimits
from relay.apiserver.access.tokens import UserAuthentication, read_tokens
from relay.apiserver.actions.build import make_actions, make_tap
from relay.apiserver.http.service import ApiHooks
from relay.apiserver.server import ApiServer
from relay.config.settings.api import CERTIFICATES_DIRECTORY, ApiSettings
from relay.config.settings.settings import ListenAddress
from relay.control.tools import ExporterTools
from tests.kit.processes import Process, eventually, free_port, started

ADMIN = "token-of-the-admin"
EDITOR = "token-of-the-editor"
VIEWER = "token-of-the-viewer"
RELAY = "token-of-another-relay"
EXPORTERS = "/apis/telemetry.datumapis.com/v1alpha1/namespaces/default/exporters"
SECRETS = "/api/v1/namespaces/default/secrets"
AUTHORITY = f"{CERTIFICATES_DIRECTORY}/{CA_FILE}"
"""The certificate of the API's authority, beside its database."""


def tokens(*projects: str) -> list[dict[str, Any]]:
    """A user of each role, and another relay, of some projects."""
    named = {"projects": list(projects)} if projects else {}
    return [
        {"token": RELAY, "user": "relay", "role": "admin", "secrets": "read", **named},
        {"token": ADMIN, "user": "admin", "role": "admin", **named},
        {"token": EDITOR, "user": "editor", "role": "editor", **named},
        {"token": VIEWER, "user": "viewer", "role": "viewer", **named},
    ]


def exporter(name: str = "acme", **metadata: Any) -> dict[str, Any]:
    """A small Exporter."""
    return {
        "apiVersion": "telemetry.datumapis.com/v1alpha1",
        "kind": "Exporter",
        "metadata": {"name": name, **metadata},
        "spec": {
            "sources": [{"name": "all", "metrics": {"metricsql": "{}"}}],
            "sinks": [{"name": "one", "otlp_http": {"endpoint": "https://otlp.example"}}],
        },
    }


def secret(name: str = "tok", **values: str) -> dict[str, Any]:
    """A Secret with values as text."""
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
    return {**made, "stringData": values or {"token": "s3cret"}}


class ApiUser:
    """Sends requests as one user."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, ca: ssl.SSLContext, token: str
    ) -> None:
        self._session = session
        self._url = url
        self._ca = ca
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send a request; return code and body. ``Content_Type`` is written with a low line."""
        code, value, _ = await self.ask_all(method, path, body, **headers)
        return code, value

    async def ask_all(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any], Any]:
        """Send a request; return code, body and headers of the answer."""
        sent = {**self._headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        data = body
        if body is not None and not isinstance(body, bytes | str | AsyncIterator):
            data = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        async with self._session.request(
            method, self._url + path, data=data, headers=sent, ssl=self._ca
        ) as response:
            content = await response.read()
            if content.startswith(b'{"type":'):
                content = content.splitlines()[0]  # the first event of a watch
            value = json.loads(content) if content[:1] in (b"{", b"[") else {"text": content}
            return response.status, value, response.headers

    async def raw(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Send a request with these headers; return the answer, and its body as it came."""
        url = URL(self._url + path, encoded=True)
        sent = {**self._headers, **headers}
        async with self._session.request(
            method, url, data=body, headers=sent, ssl=self._ca
        ) as response:
            return response, await response.read()

    async def patch(self, path: str, media_type: str, body: Any) -> tuple[int, dict[str, Any]]:
        """Send a patch of some type."""
        return await self.ask("PATCH", path, body, Content_Type=media_type)

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a watch; iterate over its events."""
        params = {"watch": "true", **query}
        async with self._session.get(
            self._url + path, params=params, headers=self._headers, ssl=self._ca
        ) as response:
            assert response.status == 200, await response.text()

            async def events() -> AsyncIterator[dict[str, Any]]:
                async for line in response.content:
                    yield json.loads(line)

            yield events()


class LocalApi:
    """The API in this process."""

    def __init__(self, server: ApiServer, session: aiohttp.ClientSession, folder: Path) -> None:
        self.server = server
        self._session = session
        self._ca = ssl.create_default_context(cafile=str(folder / AUTHORITY))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://{self.server.addresses[0]}"

    def user(self, token: str) -> ApiUser:
        """A user by its token, "" for none."""
        return ApiUser(self._session, self.url, self._ca, token)


@asynccontextmanager
async def local_api(
    folder: Path,
    *,
    users: list[dict[str, Any]] | None = None,
    tenancy: bool = False,
    limits: ApiLimits | None = None,
    authentication: UserAuthentication | None = None,
    tools: ExporterTools | None = None,
    **hooks: Any,
) -> AsyncIterator[LocalApi]:
    """Serve the API for the duration of the block; the folder keeps its objects.

    Users are those of ``authentication``, or some with tokens. ``tools`` answer the kinds that can
    only be created.
    """
    file = folder / "tokens.yaml"
    file.write_text(yaml.safe_dump(users or tokens()))
    settings = ApiSettings(folder / "api.db", ListenAddress("127.0.0.1", 0))
    if authentication is None:
        authentication = read_tokens(file, "api.authentication.file", tenancy=tenancy)
    server = ApiServer(
        settings, authentication, tenancy=tenancy, limits=limits, hooks=ApiHooks(**hooks)
    )
    if tools is not None:
        objects = server.objects
        actions = make_actions(objects, tools)
        server.use(ApiHooks(actions=actions, tap=make_tap(objects, tools), **hooks))
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield LocalApi(server, session, folder)
    finally:
        await server.stop()


class ApiProcess:
    """The API as a process; ``kubeconfig`` leads to it as an admin, or another user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.kubeconfig = folder / "kubeconfig"
        self.url = f"https://127.0.0.1:{self.port}"

    def prepare(self, token: str = ADMIN) -> None:
        """Write tokens and kubeconfig."""
        (self.folder / "tokens.yaml").write_text(yaml.safe_dump(tokens()))
        document = {
            "clusters": [
                {
                    "name": "local",
                    "cluster": {"server": self.url, "certificate-authority": AUTHORITY},
                }
            ],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
            "current-context": "local",
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        """Run it for the duration of the block, with the objects that it had."""
        command = [sys.executable, "-m", "tests.kit.apiserver.serve"]
        command += [str(self.folder), str(self.port)]
        async with started(command, log=self.folder / "api.log") as process:

            async def is_ready() -> bool:
                assert process.returncode is None, process.text()[-2000:]
                try:
                    async with (
                        aiohttp.ClientSession() as session,
                        session.get(f"{self.url}/readyz", ssl=False) as response,
                    ):
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually("the API is ready", is_ready, timeout_s=30)
            try:
                yield process
            finally:
                if process.returncode is None:
                    await process.stop()
