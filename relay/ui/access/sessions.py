"""Sessions of browsers: a random cookie, and on the server's side who it stands for.

* The server keeps the SHA-256 of a cookie, never the cookie; of a token, too.
* A session of a token ends with the token: its digest is looked up at every request.
* Sessions are written to a file whenever one begins or ends, so that a restart ends none.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from relay.apiserver.access.principals import ROLES, Principal, Role
from relay.runtime.event_loop import run_in_thread

_log: Final = logging.getLogger("relay.ui")
SESSION_S: Final = 12 * 3600.0
SESSIONS_MAX: Final = 1000
SESSIONS_OF_USER_MAX: Final = 20
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


_decoder: Final = msgspec.json.Decoder(dict[str, Session])


class Sessions:
    """The sessions; ``clock`` is the wall clock, s. ``user_of`` returns the user of a token."""

    def __init__(
        self, path: Path, clock: Callable[[], float], user_of: Callable[[str], Principal | None]
    ) -> None:
        self._path = path
        self._clock = clock
        self._user_of = user_of
        self._sessions: dict[str, Session] = {}
        self._writing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Sessions: {len(self._sessions)}>"

    def load(self) -> None:
        """Read the sessions of an earlier process; without a usable file there are none. Blocks."""
        try:
            found = _decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("sessions cannot be read, users log in anew: %s", error)
            return
        assert all(one.role in ROLES for one in found.values()), "the decoder checks roles"
        self._sessions = found

    def principal(self, cookie: str) -> Principal | None:
        """Return the user of a cookie, None for one that is not valid or no longer."""
        session = self._sessions.get(_digest(cookie)) if cookie else None
        if session is None or session.expires_at <= self._clock():
            return None
        return self._user_of(session.token) if session.token else session.principal

    async def begin(self, principal: Principal, token_digest: str = "") -> str:
        """Begin a session, and return its cookie."""
        now = self._clock()
        cookie = secrets.token_urlsafe(_COOKIE_BYTES)
        self._drop_ended(now)
        own = [key for key, one in self._sessions.items() if one.user == principal.user]
        for key in own[: max(0, len(own) - SESSIONS_OF_USER_MAX + 1)]:
            del self._sessions[key]
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        projects = tuple(sorted(principal.projects))
        self._sessions[_digest(cookie)] = Session(
            now + SESSION_S, principal.user, projects, principal.role, token_digest
        )
        await self._save()
        return cookie

    async def end(self, cookie: str) -> None:
        """End the session of a cookie, if there is one."""
        if self._sessions.pop(_digest(cookie), None) is not None:
            await self._save()

    def _drop_ended(self, now: float) -> None:
        for key in [key for key, one in self._sessions.items() if one.expires_at <= now]:
            del self._sessions[key]

    async def _save(self) -> None:
        """Write the sessions; where that fails, they hold until the relay stops."""
        async with self._writing:
            content = msgspec.json.encode(self._sessions)
            try:
                await run_in_thread(lambda: _write(self._path, content))
            except OSError as error:
                _log.warning("sessions cannot be written, a restart ends them: %s", error)


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole, readable by its owner alone."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
