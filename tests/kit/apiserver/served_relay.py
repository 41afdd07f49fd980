"""A relay in this process whose Exporters come by its own API."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from relay.app import Relay
from relay.config.settings.api import ApiAuthentication, ApiSettings
from relay.config.settings.settings import ListenAddress, Settings, Shutdown, Storage
from relay.control.reconcile.reconciler import SinkReconciler
from relay.control.reconcile.sink_report import SinkReport
from tests.kit.apiserver.running import EXPORTERS, SECRETS
from tests.kit.processes import free_port
from tests.kit.stored_relay import AT_ONCE, Sender, manifest


class ServedRelay(Sender):
    """The relay, a sender of samples to it, and a user of its API."""

    def __init__(self, relay: Relay, session: aiohttp.ClientSession, origin: str) -> None:
        super().__init__(relay, session)
        self._client = session
        self._origin = origin

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Send a request; return code and body."""
        async with self._client.request(method, self._origin + path, json=body) as response:
            return response.status, json.loads(await response.read())

    async def create(self, name: str, url: str, **options: Any) -> str:
        """Create an Exporter; return its uid."""
        body = exporter_object(name, url, **options)
        code, found = await self.ask("POST", EXPORTERS, body)
        assert code == 201, found
        return str(found["metadata"]["uid"])

    async def replace(self, name: str, url: str, **options: Any) -> None:
        """Replace the specification of an Exporter."""
        body = exporter_object(name, url, **options)
        code, found = await self.ask("GET", f"{EXPORTERS}/{name}")
        assert code == 200, found
        body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        code, found = await self.ask("PUT", f"{EXPORTERS}/{name}", body)
        assert code == 200, found

    async def delete(self, name: str) -> None:
        """Delete an Exporter."""
        code, found = await self.ask("DELETE", f"{EXPORTERS}/{name}")
        assert code == 200, found

    async def finalizers(self, name: str) -> list[str] | None:
        """Return the finalizers of an Exporter, None if it does not exist."""
        code, found = await self.ask("GET", f"{EXPORTERS}/{name}")
        return None if code == 404 else list(found["metadata"].get("finalizers", ()))

    async def set_finalizers(self, name: str, *finalizers: str) -> None:
        """Give an Exporter these finalizers."""
        code, found = await self.ask("GET", f"{EXPORTERS}/{name}")
        assert code == 200, found
        found["metadata"]["finalizers"] = list(finalizers)
        code, found = await self.ask("PUT", f"{EXPORTERS}/{name}", found)
        assert code == 200, found

    async def put_secret(self, name: str, **values: str) -> None:
        """Create a Secret."""
        metadata = {"name": name}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
        code, found = await self.ask("POST", SECRETS, body)
        assert code == 201, found

    async def delete_secret(self, name: str) -> None:
        """Delete a Secret."""
        code, found = await self.ask("DELETE", f"{SECRETS}/{name}")
        assert code == 200, found

    def runs(self, name: str, uid: str) -> bool:
        """Return whether the sinks of this object run."""
        found = self.reconciler.running(f"default/{name}")
        return found is not None and found.exporter.uid == uid

    @property
    def reconciler(self) -> SinkReconciler:
        """The reconciler of the relay's sinks."""
        found = self.relay._reconciler
        assert found is not None, "it is started"
        return found

    def draining(self) -> list[SinkReport]:
        """Return the reports of the sinks that only drain."""
        return [report for report in self.reconciler.reports() if report.removed]


def exporter_object(
    name: str, url: str, *, secret: str = "", paused: bool = False, **options: Any
) -> dict[str, Any]:
    """Return an Exporter with one sink; ``options`` are those of :func:`manifest`."""
    made: dict[str, Any] = yaml.safe_load(manifest(name, url, **options))
    (sink,) = made["spec"]["sinks"]
    if secret:
        sink["otlp_http"]["authentication"] = {
            "type": "bearerToken",
            "secretRef": {"name": secret},
        }
    if paused:
        sink["paused"] = True
    return made


@asynccontextmanager
async def served_relay(
    folder: Path, *, stored: bool, drain_timeout_s: float = 0.5, assembly_timeout_s: float = 1.0
) -> AsyncIterator[ServedRelay]:
    """Run a relay with its own API for the duration of the block; the folder keeps all."""
    port = free_port()
    storage = Storage(folder / "data") if stored else None
    settings = Settings(
        translation=replace(AT_ONCE, assembly_timeout_s=assembly_timeout_s),
        listen=ListenAddress("127.0.0.1", 0),
        admin_listen=ListenAddress("127.0.0.1", 0),
        exporters=(),
        storage=storage,
        shutdown=Shutdown(drain_timeout_s=drain_timeout_s),
        api=ApiSettings(
            folder / "api.db",
            ListenAddress("127.0.0.1", 0),
            ListenAddress("127.0.0.1", port),
            authentication=ApiAuthentication("none"),
        ),
    )
    relay = Relay(settings, clock=time.time)
    await relay.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield ServedRelay(relay, session, f"http://127.0.0.1:{port}")
    finally:
        await relay.stop()
