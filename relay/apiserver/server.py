"""Compose the API: database, objects, service and listeners, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Final

from aiohttp import web

from relay.apiserver.access.certificates import ensure_certificates
from relay.apiserver.access.limits import ApiLimits
from relay.apiserver.access.tokens import UserAuthentication
from relay.apiserver.http.service import ApiHooks, ApiService, ApiStatistics
from relay.apiserver.objects.metadata import GENERATED_ALPHABET, SUFFIX_CHARS
from relay.apiserver.objects.writes import Stamp
from relay.apiserver.store.database import ObjectDatabase
from relay.apiserver.store.encryption import ValueCipher
from relay.apiserver.store.served_objects import ServedObjects
from relay.config.settings.addresses import is_loopback
from relay.config.settings.api import ApiSettings
from relay.config.settings.settings import ListenAddress, ServerTls
from relay.control.kubernetes.status_body import written_time
from relay.receiver.http.aiohttp_server import Handler
from relay.receiver.http.connection_limit import connections_max
from relay.receiver.http.listener import Listener
from relay.receiver.http.tls import server_context
from relay.runtime.event_loop import run_in_thread

_log: Final = logging.getLogger("relay.api")
Front = Callable[[ApiService, UserAuthentication], Handler]
"""Returns the handler of every request to the API's addresses, before the API itself. May block."""
_MADE_BY_ITSELF: Final = ("events", "namespaces")
"""Kinds whose objects are there without a user's doing."""


def new_stamp() -> Stamp:
    """Return time and random parts for a write."""
    suffix = "".join(secrets.choice(GENERATED_ALPHABET) for _ in range(SUFFIX_CHARS))
    return Stamp(written_time(time.time()), str(uuid.uuid4()), suffix)


class ApiServer:
    """Serves the API; raise ConfigError or StoreUnusableError at the start, nothing later.

    Addresses and files are those of the settings. ``authentication`` may be given by :meth:`admit`,
    and ``front`` be set, until the start.
    """

    def __init__(
        self,
        settings: ApiSettings,
        authentication: UserAuthentication | None = None,
        *,
        tenancy: bool = False,
        limits: ApiLimits | None = None,
        cipher: ValueCipher | None = None,
        hooks: ApiHooks | None = None,
    ) -> None:
        self._hooks = hooks or ApiHooks()
        self._sweeping: asyncio.Task[None] | None = None
        self._settings = settings
        self._authentication = authentication
        self._tenancy = tenancy
        self._limits = limits or ApiLimits()
        self._database = ObjectDatabase(settings.path, cipher)
        self.objects: Final = ServedObjects(self._database)
        self._service: ApiService | None = None
        self._listeners: list[Listener] = []
        self._answer: Handler | None = None
        self.front: Front = lambda service, _: service.handle

    def __repr__(self) -> str:
        return f"<ApiServer {self._settings.listen}>"

    def admit(self, authentication: UserAuthentication, cipher: ValueCipher | None) -> None:
        """Set what tells users, and what encrypts Secrets, before :meth:`start`."""
        self._authentication = authentication
        self._database.use(cipher)

    def use(self, hooks: ApiHooks) -> None:
        """Set what the rest of the relay gives the API, before :meth:`start`."""
        self._hooks = hooks

    async def start(self) -> None:
        """Open the database, load the objects, and listen."""
        settings, authentication = self._settings, self._authentication
        assert authentication is not None, "admit comes before"
        plain = settings.http_listen
        assert plain is None or is_loopback(plain.host), "the settings are valid"
        tls = settings.tls
        if tls is None:
            files = await run_in_thread(
                lambda: ensure_certificates(settings.directory, settings.hostnames)
            )
            tls = ServerTls(cert_file=files.certificate, key_file=files.key)
        context = server_context(tls, setting="api.tls")
        await run_in_thread(self._load)
        self.objects.start()
        service = self._service = ApiService(
            self.objects,
            authentication,
            tenancy=self._tenancy,
            limits=self._limits.within(connections_max("api")),
            clock=time.time,
            stamp=new_stamp,
            hooks=self._hooks,
        )
        await service.start()
        self._sweeping = asyncio.create_task(service.sweeper.run())
        self._answer = await run_in_thread(lambda: self.front(service, authentication))
        self._listeners = [
            Listener(self._handle, settings.listen, setting="api.listen", tls=context, role="api")
        ]
        if plain is not None:
            local = Listener(self._handle, plain, setting="api.httpListen", role="local_api")
            self._listeners.append(local)
        for listener in self._listeners:
            await listener.start()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request in a turn of its own."""
        await self.objects.turns.turn()
        assert self._answer is not None, "not started"
        return await self._answer(request)

    def _load(self) -> None:
        self._database.open()
        sealed = self._database.seal_all()
        if sealed:
            _log.info("encrypted Secrets that were not, or with an old key: %d", sealed)
        self.objects.load(tenancy=self._tenancy)
        kept = [one for one in self.objects.unreachable if one.kind not in _MADE_BY_ITSELF]
        if kept:
            of, state = ("no project", "on") if self._tenancy else ("projects", "off")
            message = "objects of %s are kept, but neither run nor shown while tenancy is %s: %d"
            _log.warning(message, of, state, len(kept))

    async def stop(self) -> None:
        """End watches, close connections, write what waits, and close the database."""
        if self._service is not None:
            self._service.close()
        for listener in self._listeners:
            await listener.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
            (ended,) = await asyncio.gather(self._sweeping, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended  # a bug: it ends by being cancelled
        if self._service is not None:
            await self.objects.stop()
        await run_in_thread(self._database.close)

    @property
    def service(self) -> ApiService:
        """Handler of requests; only after :meth:`start`."""
        assert self._service is not None, "not started"
        return self._service

    def statistics(self) -> ApiStatistics | None:
        """Return a snapshot, None before the start."""
        return self._service.statistics() if self._service is not None else None

    @property
    def addresses(self) -> list[ListenAddress]:
        """Bound addresses: with TLS, and without where there is one."""
        return [listener.address for listener in self._listeners]
