"""Sessions of browsers: a random cookie, and on the server's side who it stands for.

* The server keeps the SHA-256 of a cookie, never the cookie; of a token, too.
* A session of a token ends with the token: its digest is looked up at every request.
* Sessions are written to a file whenever one begins or ends, so that a restart ends none. They are
  of one ``realm``, the way in which users are told: under another one they are worth nothing.
* Sessions are limited by user and in all. Users of one name in other projects are others. Where
  there are too many in all, the oldest session of the projects that have the most is ended.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from relay.apiserver.access.principals import Principal, Role
from relay.apiserver.access.tokens import token_digest
from relay.apiserver.lasting_failure import LastingFailure
from relay.runtime.event_loop import run_in_thread
from relay.storage.log.filesystem import Disk

_log: Final = logging.getLogger("relay.ui")
SESSION_S: Final = 12 * 3600.0
SESSIONS_MAX: Final = 5000
SESSIONS_OF_USER_MAX: Final = 20
FILE_BYTES_MAX: Final = 16 * 1024 * 1024
_COOKIE_BYTES: Final = 32


class Session(msgspec.Struct, frozen=True):
    """One login until ``expires_at`` (wall clock, s); ``token`` is the digest of its token, or "".

    User, projects and role are those of the login; of a token they are looked up instead.
    """

    expires_at: float
    user: str
    projects: tuple[str, ...]
    role: Role
    token: str = ""

    @property
    def principal(self) -> Principal:
        """The user as of the login."""
        return Principal(self.user, frozenset(self.projects), self.role)


class SessionFile(msgspec.Struct, frozen=True):
    """Content of the file: sessions by the digest of their cookie."""

    realm: str
    sessions: dict[str, Session]


_decoder: Final = msgspec.json.Decoder(SessionFile)


class Sessions:
    """The sessions; ``clock`` is the wall clock, s. ``user_of`` returns the user of a token."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        user_of: Callable[[str], Principal | None],
        realm: str = "",
    ) -> None:
        self._path = path
        self._clock = clock
        self._user_of = user_of
        self._realm = realm
        self._sessions: dict[str, Session] = {}
        self._writing = asyncio.Lock()
        self._changes = 0
        self._written = 0
        """Number of changes that the file has."""
        self._failure = LastingFailure(_log, "sessions", time.monotonic)

    def __repr__(self) -> str:
        return f"<Sessions: {len(self._sessions)}>"

    def load(self) -> None:
        """Read the sessions of an earlier process; without a usable file there are none. Blocks."""
        try:
            with self._path.open("rb") as file:
                found = _decoder.decode(file.read(FILE_BYTES_MAX))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:  # a ValueError of msgspec
            _log.warning("sessions cannot be read, users log in anew: %s", error)
            return
        if found.realm == self._realm:
            self._sessions = found.sessions

    def principal(self, cookie: str) -> Principal | None:
        """Return the user of a cookie, None for one that is not valid or no longer."""
        session = self._sessions.get(token_digest(cookie)) if cookie else None
        return None if session is None else self._principal_of(session)

    def _principal_of(self, session: Session) -> Principal | None:
        if session.expires_at <= self._clock():
            return None
        return self._user_of(session.token) if session.token else session.principal

    async def begin(
        self,
        principal: Principal,
        token: str = "",
        *,
        until: float | None = None,
        instead_of: str = "",
    ) -> tuple[str, int]:
        """Begin a session, and return its cookie and how long it lasts, s.

        ``token`` is the digest of the token that was given, "" without one.
        It ends no later than ``until``, and that of the cookie ``instead_of`` ends now.
        """
        now = self._clock()
        expires_at = now + SESSION_S if until is None else min(now + SESSION_S, until)
        cookie = secrets.token_urlsafe(_COOKIE_BYTES)
        self._sessions.pop(token_digest(instead_of), None)
        projects = tuple(sorted(principal.projects))
        made = Session(expires_at, principal.user, projects, principal.role, token)
        self._make_room(made)
        self._sessions[token_digest(cookie)] = made
        await self._save()
        return cookie, max(0, int(expires_at - now))

    async def end(self, cookie: str) -> None:
        """End the session of a cookie, if there is one."""
        if self._sessions.pop(token_digest(cookie), None) is not None:
            await self._save()

    def _make_room(self, made: Session) -> None:
        """Drop sessions that have ended, and as many of others as the limits ask for."""
        ended = [key for key, one in self._sessions.items() if self._principal_of(one) is None]
        for key in ended:
            del self._sessions[key]
        own = [
            key
            for key, one in self._sessions.items()
            if (one.user, one.projects) == (made.user, made.projects)
        ]
        for key in own[: max(0, len(own) - SESSIONS_OF_USER_MAX + 1)]:
            del self._sessions[key]
        while len(self._sessions) >= SESSIONS_MAX:
            counts = Counter(one.projects for one in self._sessions.values())
            (most, _) = counts.most_common(1)[0]
            del self._sessions[
                next(key for key, one in self._sessions.items() if one.projects == most)
            ]

    async def _save(self) -> None:
        """Write the sessions; where that fails, they hold until the relay stops.

        What comes while others are written is written together.
        """
        self._changes += 1
        wanted = self._changes
        async with self._writing:
            if self._written >= wanted:
                return
            written, content = self._changes, SessionFile(self._realm, dict(self._sessions))
            try:
                await run_in_thread(lambda: _write(self._path, msgspec.json.encode(content)))
            except OSError as error:
                self._failure.failed(error)
            else:
                self._failure.succeeded()
            self._written = written


def _write(path: Path, content: bytes) -> None:
    """Replace the file; where that fails, remove it: it would bring back sessions that ended."""
    try:
        Disk().replace(path, content, sync=False)
    except OSError:
        path.unlink(missing_ok=True)
        raise
