"""The pages in this process over a small API, and a visitor without scripts."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from multidict import CIMultiDictProxy

from relay.apiserver.access.tokens import UserAuthentication, read_tokens
from relay.apiserver.actions.histories import HistoryAnswers
from relay.apiserver.http.reads import ComputedStatus, nothing_computed
from relay.apiserver.http.service import ApiHooks
from relay.apiserver.server import ApiServer
from relay.config.settings.api import SESSIONS_FILE, ApiSettings, OidcSettings
from relay.config.settings.settings import ListenAddress
from relay.control.status.sink_history import SinkHistories
from relay.ui.compose import Pages
from tests.kit.apiserver.running import ADMIN, AUTHORITY, ApiUser, tokens


@dataclass(frozen=True)
class PageAnswer:
    """An answer to a visitor."""

    status: int
    text: str
    headers: CIMultiDictProxy[str]

    @property
    def location(self) -> str:
        """Where it leads."""
        return self.headers.get("Location", "")


class Visitor:
    """A browser without scripts: keeps cookies, sends ``Origin`` with forms."""

    def __init__(self, session: aiohttp.ClientSession, url: str, ca: ssl.SSLContext) -> None:
        self._session = session
        self._ca = ca
        self.url = url

    async def get(self, path: str, **headers: str) -> PageAnswer:
        """Read a page; redirects are not followed."""
        return await self._ask("GET", path, None, headers)

    async def post(
        self, path: str, fields: Mapping[str, str] | None = None, **headers: str
    ) -> PageAnswer:
        """Send a form."""
        return await self._ask("POST", path, fields or {}, {"Origin": self.url, **headers})

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a stream; iterate over the data of its events."""
        headers = {"Accept": "text/event-stream"}
        async with self._session.get(self.url + path, headers=headers, ssl=self._ca) as response:
            assert response.status == 200, await response.text()

            async def events() -> AsyncIterator[dict[str, Any]]:
                async for line in response.content:
                    if line.startswith(b"data: "):
                        yield json.loads(line.removeprefix(b"data: "))

            yield events()

    async def log_in(self, token: str) -> PageAnswer:
        """Paste a token."""
        answer = await self.post("/ui/login", {"token": token})
        assert answer.status == 303, answer.text
        return answer

    async def _ask(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str] | None,
        headers: Mapping[str, str],
    ) -> PageAnswer:
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        async with self._session.request(
            method,
            self.url + path,
            data=fields,
            headers=sent,
            ssl=self._ca,
            allow_redirects=False,
        ) as response:
            return PageAnswer(response.status, await response.text(), response.headers)


class LocalPages:
    """The pages in this process."""

    def __init__(
        self,
        server: ApiServer,
        pages: Pages,
        folder: Path,
        authentication: Any,
        histories: SinkHistories,
    ) -> None:
        self.server = server
        self.histories = histories
        self.authentication = authentication
        self.pages = pages
        self._folder = folder
        self._ca = ssl.create_default_context(cafile=str(folder / AUTHORITY))

    @property
    def url(self) -> str:
        """Where they are."""
        return f"https://{self.server.addresses[0]}"

    @asynccontextmanager
    async def visitor(self, token: str = "") -> AsyncIterator[Visitor]:
        """A visitor, who has logged in if there is a token."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            found = Visitor(session, self.url, self._ca)
            if token:
                await found.log_in(token)
            yield found

    @asynccontextmanager
    async def api(self, token: str = ADMIN) -> AsyncIterator[ApiUser]:
        """A user of the API."""
        async with aiohttp.ClientSession() as session:
            yield ApiUser(session, self.url, self._ca, token)


@asynccontextmanager
async def local_pages(
    folder: Path,
    *,
    users: list[dict[str, Any]] | None = None,
    tenancy: bool = False,
    computed: ComputedStatus = nothing_computed,
    authentication: UserAuthentication | None = None,
    oidc: OidcSettings | None = None,
    has_plain: bool = False,
    **hooks: Any,
) -> AsyncIterator[LocalPages]:
    """Serve API and pages for the duration of the block; the folder keeps objects and sessions.

    ``has_plain``: also without TLS, at the second of the server's addresses.
    """
    file = folder / "tokens.yaml"
    file.write_text(yaml.safe_dump(users or tokens()))
    here = ListenAddress("127.0.0.1", 0)
    settings = ApiSettings(folder / "api.db", here, http_listen=here if has_plain else None)
    known = authentication or read_tokens(file, "api.authentication.file", tenancy=tenancy)
    histories = SinkHistories()
    hooks.setdefault("history", HistoryAnswers(histories, time.time))
    parts = ApiHooks(computed=computed, **hooks)
    server = ApiServer(settings, known, tenancy=tenancy, hooks=parts)
    sessions = folder / SESSIONS_FILE
    pages = Pages(server.objects, computed, histories, sessions, tenancy=tenancy, oidc=oidc)
    server.front = pages.front
    await server.start()
    try:
        yield LocalPages(server, pages, folder, known, histories)
    finally:
        pages.live.close()
        await server.stop()


def ready(reason: str = "Delivering", status: str = "True", message: str = "") -> dict[str, Any]:
    """A status as the relay writes it."""
    at = "2026-11-29T07:00:00Z"
    made = [
        ("Accepted", "True", "Accepted", "It is valid."),
        ("ResolvedRefs", "True", "ResolvedRefs", "Every Secret is there."),
        ("Programmed", "True", "Programmed", "This version runs."),
        ("Delivering", status, reason, message or "The endpoint accepts data."),
    ]
    return {
        "conditions": [
            {
                "type": kind,
                "status": value,
                "reason": why,
                "message": text,
                "observedGeneration": 1,
                "lastTransitionTime": at,
            }
            for kind, value, why, text in made
        ]
    }


async def set_status(user: ApiUser, path: str, status: dict[str, Any]) -> None:
    """Write the status of an object, as the relay does."""
    code, answer = await user.patch(
        f"{path}/status", "application/merge-patch+json", json.dumps({"status": status})
    )
    assert code == 200, answer
