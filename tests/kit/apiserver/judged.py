"""The API with statuses of objects whose sinks do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relay.apiserver.object_statuses import ObjectStatuses
from relay.apiserver.objects.kinds import ResourceKind
from relay.apiserver.server import ApiServer
from relay.apiserver.store import database
from relay.apiserver.store.database import Change, ObjectDatabase
from relay.apiserver.store.errors import StoreFullError
from relay.apiserver.store.event_ring import StoredObject
from relay.config.exporter.load_result import ObjectKey, ObjectResult
from relay.control.status.board import StatusBoard
from tests.kit.apiserver.running import ADMIN, EXPORTERS, ApiUser, exporter, local_api
from tests.kit.processes import eventually
from tests.kit.sink import running_sinks
from tests.kit.sink.running_sinks import ToldSinks

EVENTS = "/api/v1/namespaces/default/events"


class FullDisk:
    """Fails the transactions of every database while it is full; counts their changes."""

    def __init__(self) -> None:
        self.is_full = False
        self.refused = 0
        self.groups: list[int] = []
        self._write = database.ObjectDatabase.write

    def as_method(self) -> Callable[[ObjectDatabase, Sequence[Change]], None]:
        """Return what takes the place of :meth:`ObjectDatabase.write`."""

        def write(target: ObjectDatabase, changes: Sequence[Change]) -> None:
            if self.is_full:
                self.refused += 1
                raise StoreFullError("no room")
            self.groups.append(len(changes))
            self._write(target, changes)

        return write


class JudgedApi:
    """An API, its statuses, and the board that judges them once :meth:`look` is called."""

    def __init__(self) -> None:
        self.sinks = ToldSinks()
        self.board = StatusBoard(self.sinks, lambda: self.sinks.loaded)
        self.now = 0.0
        """Monotonic clock of the statuses."""
        self.results: dict[ObjectKey, ObjectResult] = {}
        self.statuses: ObjectStatuses
        self.server: ApiServer
        self.user: ApiUser
        self._running: asyncio.Task[None] | None = None

    def computed(self, kind: ResourceKind, one: StoredObject) -> bytes | None:
        """Return a status as of now."""
        return self.statuses.computed(kind, one)

    def key(self, name: str, source: Any = "api") -> ObjectKey:
        """Return the key of an Exporter."""
        return ObjectKey(source, "", "Exporter", "", "default", name)

    async def create(self, name: str, **metadata: Any) -> dict[str, Any]:
        """Create an Exporter, and load it."""
        code, made = await self.user.ask("POST", EXPORTERS, exporter(name, **metadata))
        assert code == 201, made
        self.load(made)
        return made

    async def edit(self, name: str) -> dict[str, Any]:
        """Change an Exporter, without loading it."""
        _, found = await self.user.ask("GET", f"{EXPORTERS}/{name}")
        sinks = found["spec"]["sinks"]
        sinks[0]["otlp_http"]["endpoint"] += "/more"
        code, made = await self.user.ask("PUT", f"{EXPORTERS}/{name}", found)
        assert code == 200, made
        return made

    def load(self, made: dict[str, Any], *, runs: bool = True) -> None:
        """Load a version of an object, and run it."""
        metadata = made["metadata"]
        name, uid, generation = (metadata[one] for one in ("name", "uid", "generation"))
        key = self.key(name)
        one = running_sinks.Exporter(
            "", "default", name, (), (running_sinks.sink("one"),), generation=generation, uid=uid
        )
        found = running_sinks.result(one, key=key, uid=uid, generation=generation)
        self.results[key] = found
        self.sinks.load(*self.results.values())
        if runs:
            self.sinks.apply(one, 1000.0)

    async def delete(self, name: str) -> None:
        """Delete an Exporter."""
        code, _ = await self.user.ask("DELETE", f"{EXPORTERS}/{name}")
        assert code == 200
        self.results.pop(self.key(name))
        self.sinks.load(*self.results.values())

    async def start(self) -> None:
        """Follow the board, and store what it says."""
        await self.board.look()
        await self.statuses.follow(self.board)
        self._running = asyncio.ensure_future(self.statuses.run())

    async def stop(self) -> None:
        """End what stores."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def stored(self, name: str) -> dict[str, Any]:
        """Return the status of an Exporter as it is stored."""
        kind = "exporters.telemetry.datumapis.com"
        found = self.server.objects.get(database.ObjectKeyInStore(kind, "", "default", name))
        assert found is not None
        status: dict[str, Any] = found.value().get("status", {})
        return status

    async def until(self, name: str, kind: str, status: str, generation: int = 1) -> dict[str, Any]:
        """Wait for a stored condition; return the status."""

        async def is_there() -> bool:
            conditions = (await self.stored(name)).get("conditions", ())
            wanted = (kind, status, generation)
            return wanted in [
                (one["type"], one["status"], one.get("observedGeneration")) for one in conditions
            ]

        await eventually(f"{name}: {kind}={status}", is_there, timeout_s=10)
        return await self.stored(name)

    async def reasons(self, name: str) -> dict[str, int]:
        """Return the reasons of an object's Events, and their counts."""
        _, listed = await self.user.ask("GET", f"{EVENTS}?fieldSelector=involvedObject.name={name}")
        return {one["reason"]: one["count"] for one in listed["items"]}


@asynccontextmanager
async def judged_api(folder: Path) -> AsyncIterator[JudgedApi]:
    """Serve the API; the folder keeps its objects. Nothing is stored before :meth:`start`."""
    made = JudgedApi()
    async with local_api(folder, computed=made.computed) as api:
        made.server, made.user = api.server, api.user(ADMIN)
        made.statuses = ObjectStatuses(
            api.server.objects, lambda: api.server.service.changer, clock=lambda: made.now
        )
        try:
            yield made
        finally:
            await made.stop()
