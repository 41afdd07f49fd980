"""Compose the pages, and mount them on the relay's own API."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relay.apiserver.access.principals import Principal
from relay.apiserver.access.tokens import TokenAuthentication, UserAuthentication
from relay.apiserver.compose import OwnApi, make_api
from relay.apiserver.http.reads import ComputedStatus
from relay.apiserver.http.service import ApiService
from relay.apiserver.store.served_objects import ServedObjects
from relay.config.settings.api import SESSIONS_FILE, OidcSettings
from relay.config.settings.settings import Settings
from relay.control.status.sink_history import SinkHistories
from relay.control.tools import ExporterTools
from relay.receiver.http.aiohttp_server import Handler
from relay.ui.access.code_flow import OidcCodeFlow
from relay.ui.access.login import LoginPages
from relay.ui.access.sessions import Sessions
from relay.ui.live import LiveStreams, OncePerTick, RowCache
from relay.ui.pages import complete, exporter, exporters, operator, secrets, streams, tools, write
from relay.ui.rendering import Rendering
from relay.ui.service import UiService
from relay.ui.static_files import StaticFiles
from relay.ui.summaries import Summaries
from relay.ui.visit import Look, Shared

ROUTES: Final = (
    *exporters.ROUTES,
    *write.ROUTES,
    *tools.ROUTES,
    *complete.ROUTES,
    *exporter.ROUTES,
    *secrets.ROUTES,
    *operator.ROUTES,
    *streams.ROUTES,
)


class Pages:
    """The parts of the pages of one API; ``sessions`` is the file of sessions.

    The pages call the API; only the list reads statuses (``computed``) and ``histories`` without.
    """

    def __init__(
        self,
        objects: ServedObjects,
        computed: ComputedStatus,
        histories: SinkHistories,
        sessions: Path,
        *,
        tenancy: bool,
        look: Look | None = None,
        oidc: OidcSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._look = look
        self._oidc = oidc
        self._objects = objects
        self._computed = computed
        self._histories = histories
        self._sessions = sessions
        self._tenancy = tenancy
        self._clock = clock
        self.live: Final = LiveStreams(clock, objects.turns)

    def front(self, service: ApiService, authentication: UserAuthentication) -> Handler:
        """Return the handler of every request: for a page, or of the API. Blocks for 0.2 s."""
        static = StaticFiles()
        rendering = Rendering(static, self._clock)
        realm = self._realm(authentication)
        sessions = Sessions(self._sessions, self._clock, _lookup(authentication), realm)
        sessions.load()
        login = LoginPages(authentication, sessions, rendering, self._code_flow(authentication))
        shared = Shared(
            rendering=rendering,
            objects=self._objects,
            computed=self._computed,
            histories=self._histories,
            summaries=Summaries(self._objects),
            live=self.live,
            rows=RowCache(),
            ticks=OncePerTick(),
            tenancy=self._tenancy,
            has_logout=not login.is_open,
            look=self._look,
            user_of=login.user_of,
            clock=self._clock,
        )
        return UiService(service, shared, login, static, ROUTES).handle

    def _realm(self, authentication: UserAuthentication) -> str:
        """Return a sign of the way in which users are told: who may what under it."""
        way = (type(authentication).__name__, self._oidc, self._tenancy)
        return hashlib.sha256(repr(way).encode()).hexdigest()

    def _code_flow(self, authentication: UserAuthentication) -> OidcCodeFlow | None:
        """Return the logins at the issuer, None without a client ID of the pages."""
        if self._oidc is None or not self._oidc.client_id:
            return None
        given = self._oidc
        return OidcCodeFlow(given.issuer, given.client_id, authentication, self._clock)

    def __repr__(self) -> str:
        return f"<Pages {self.live!r}>"


def _lookup(authentication: UserAuthentication) -> Callable[[str], Principal | None]:
    if isinstance(authentication, TokenAuthentication):
        return authentication.user_of
    return lambda _: None


def make_served_api(settings: Settings, tools: ExporterTools, look: Look) -> OwnApi | None:
    """Return the API that the settings name, with its pages; None without one.

    ``look`` returns the figures of the relay, once it has started.
    """
    api = make_api(settings, tools)
    if api is None or settings.api is None:
        return None
    pages = Pages(
        api.objects,
        api.computed,
        api.histories,
        settings.api.path.parent / SESSIONS_FILE,
        tenancy=settings.tenancy is not None,
        look=look,
        oidc=settings.api.authentication.oidc,
    )
    api.mount(pages.front, pages.live.close)
    return api
