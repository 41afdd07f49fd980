"""Compose the relay's own API of its settings: access, objects, statuses, objects of files."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from aiohttp import web

from relay.apiserver.access.foreign_pages import foreign_page
from relay.apiserver.access.oidc import OidcAuthentication, key_source
from relay.apiserver.access.token_file import TokenFile
from relay.apiserver.access.tokens import NoAuthentication, UserAuthentication
from relay.apiserver.actions.build import make_actions, make_tap
from relay.apiserver.actions.histories import HistoryAnswers
from relay.apiserver.file_follower import FileFollower
from relay.apiserver.http.changes import Changer
from relay.apiserver.http.reads import ComputedStatus
from relay.apiserver.http.service import ApiHooks, allow_every_request
from relay.apiserver.object_finalizers import ObjectFinalizers
from relay.apiserver.object_source import ApiResources
from relay.apiserver.object_statuses import ObjectStatuses
from relay.apiserver.other_relays import OtherRelays, SharedBoard, held_by_all
from relay.apiserver.server import ApiServer, Front
from relay.apiserver.store.encryption import read_cipher
from relay.apiserver.store.errors import StoreUnusableError
from relay.apiserver.store.served_objects import ServedObjects
from relay.config.exporter.loading.combine import OriginResources
from relay.config.settings.addresses import ListenAddress
from relay.config.settings.api import ApiAuthentication, ApiSettings
from relay.config.settings.settings import Settings
from relay.control.cluster.relays import RELEASE_MARGIN_S
from relay.control.replicas.peer_access import PeerAccess
from relay.control.status.board import StatusBoard
from relay.control.status.history_recorder import HistoryRecorder
from relay.control.status.sink_history import SinkHistories
from relay.control.tools import ExporterTools
from relay.runtime.errors import ConfigError, Fault
from relay.telemetry.snapshot import ApiFigures

_log: Final = logging.getLogger("relay.api")
AUTHENTICATION: Final = "api.authentication"


class OwnApi:
    """The API of one relay. Lives on the event loop, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        settings: ApiSettings,
        tools: ExporterTools,
        *,
        tenancy: bool,
        drain_timeout_s: float,
        peers: PeerAccess,
        name: str,
    ) -> None:
        self._settings = settings
        self._release_s = drain_timeout_s + RELEASE_MARGIN_S
        self._tenancy = tenancy
        is_open = settings.authentication.type == "none"
        self._server = ApiServer(settings, tenancy=tenancy)
        objects = self._server.objects
        self._statuses = ObjectStatuses(objects, self._changer)
        self.histories: Final = SinkHistories()
        hooks = ApiHooks(
            allows_request=refuse_foreign_pages if is_open else allow_every_request,
            actions=make_actions(objects, tools),
            computed=self._statuses.computed,
            tap=make_tap(objects, tools),
            history=HistoryAnswers(self.histories, time.time),
        )
        self._server.use(hooks)
        mark = secrets.token_hex(4)
        self._others = OtherRelays(objects, self._changer, peers, name, mark)
        self.source: Final = ApiResources(objects)
        self._tokens: TokenFile | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: Callable[[], None] = lambda: None

    @property
    def objects(self) -> ServedObjects:
        """The objects that are served."""
        return self._server.objects

    @property
    def computed(self) -> ComputedStatus:
        """Function that returns the parts of an object's status that are as of now."""
        return self._statuses.computed

    def mount(self, front: Front, close: Callable[[], None]) -> None:
        """Let ``front`` see every request first; ``close`` is called before requests are ended.

        Before :meth:`start`.
        """
        self._server.front = front
        self._closing = close

    def _changer(self) -> Changer:
        return self._server.service.changer

    async def start(self) -> None:
        """Read users and keys, load the objects, and listen; raise ConfigError."""
        keys = self._settings.encryption_key_file
        self._server.admit(
            self._users(), None if keys is None else read_cipher(keys, "api.encryptionKeyFile")
        )
        try:
            await self._server.start()
        except StoreUnusableError as error:
            raise ConfigError((Fault("api.path", str(error)),)) from error
        addresses = ", ".join(str(one) for one in self._server.addresses)
        _log.info("the API is served", extra={"listen": addresses})
        if self._tokens is not None:
            self._run(self._tokens.run())

    def _users(self) -> UserAuthentication:
        """Return what tells users; a file of tokens is followed."""
        given = self._settings.authentication
        if given.file is None:
            return authentication_of(given, tenancy=self._tenancy)
        self._tokens = TokenFile(
            given.file,
            f"{AUTHENTICATION}.file",
            tenancy=self._tenancy,
            changed=self._make_projects,
        )
        self._tokens.read()
        return self._tokens.authentication

    async def _make_projects(self) -> None:
        await self._server.service.start()

    async def follow(
        self,
        board: StatusBoard,
        files: Callable[[], tuple[OriginResources, ...]],
        held: Callable[[], Collection[str]],
    ) -> None:
        """Show the statuses of a board, and the objects of ``files``.

        ``held`` returns the uids of objects of which sinks run or drain.
        """
        follower = FileFollower(
            files, lambda: self._server.service.files, self._statuses.files_stored
        )
        self._others.look()
        await self._statuses.follow(SharedBoard(board, self._others))
        self._run(self._others.run())
        self._run(self._statuses.run())
        self._run(follower.run())
        self._run(HistoryRecorder(board, self.histories, time.time).run())
        self._run(
            ObjectFinalizers(
                self.source, self._changer, held_by_all(held, self._others), self._release_s
            ).run()
        )

    async def stop(self) -> None:
        """End all requests, and close the database."""
        self._closing()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome  # a bug: they end by being cancelled
        await self._server.stop()

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """Bound addresses: with TLS, and without where there is one; none before the start."""
        return tuple(self._server.addresses)

    def figures(self) -> ApiFigures | None:
        """Return the figures of a scrape, None before the start."""
        found = self._server.statistics()
        if found is None:
            return None
        objects = found.objects
        return ApiFigures(
            answers=found.answers,
            requests=found.requests,
            watches=found.watches,
            objects=objects.objects,
            version=objects.version,
            changes=objects.commits.changes,
            transactions=objects.commits.transactions,
            failed=objects.commits.failed,
            waiting=objects.commits.waiting,
            token_faults=None if self._tokens is None else self._tokens.faults,
        )

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def __repr__(self) -> str:
        return f"<OwnApi {self._server!r}>"


def refuse_foreign_pages(request: web.BaseRequest) -> str:
    """Return why a request is not taken without authentication, "" for one that is."""
    return foreign_page(request.headers)


def make_api(settings: Settings, tools: ExporterTools) -> OwnApi | None:
    """Return the API that the settings name, None without."""
    if settings.api is None:
        return None
    return OwnApi(
        settings.api,
        tools,
        tenancy=settings.tenancy is not None,
        drain_timeout_s=settings.shutdown.drain_timeout_s,
        peers=PeerAccess(settings.admin),
        name=os.environ.get("POD_NAME", "") or f"{socket.gethostname()}-api",
    )


def authentication_of(settings: ApiAuthentication, *, tenancy: bool) -> UserAuthentication:
    """Return what tells users without a file of tokens; raise ConfigError for faulty keys."""
    if settings.oidc is None:
        assert settings.type == "none", "the settings are valid"
        return NoAuthentication()
    given = settings.oidc
    source = key_source(given, time.monotonic)
    return OidcAuthentication(given, source, time.time, tenancy=tenancy)
