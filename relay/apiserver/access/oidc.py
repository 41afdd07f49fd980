"""OpenID Connect: bearer tokens of an issuer, with user, projects and role in their claims.

Keys come from a file, or from the issuer's address: they are read anew every
:data:`REFRESH_S`, and when a token names a key that is not known, at most once in
:data:`UNKNOWN_KEY_S`. The last good keys stay. Only a request that needs a key that is not there
waits for the issuer: one that is slow or away holds up nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from relay.apiserver.access.json_web_tokens import (
    JWKS_BYTES_MAX,
    KeySetError,
    SigningKey,
    TokenInvalidError,
    UnknownKeyError,
    read_keys,
    verified_claims,
)
from relay.apiserver.access.principals import EVERY_PROJECT, ROLES, Principal
from relay.apiserver.access.tokens import bearer
from relay.apiserver.objects.metadata import name_problem
from relay.config.settings.api import OidcSettings
from relay.runtime.errors import ConfigError, Fault

_log: Final = logging.getLogger("relay.api")
REFRESH_S: Final = 600.0
UNKNOWN_KEY_S: Final = 10.0
LEEWAY_S: Final = 30.0
"""Difference of clocks that is allowed for."""
LOG_S: Final = 1.0
"""Time between two lines of the log about tokens that are refused."""
_TIMEOUT_S: Final = 10.0
_PROJECTS_MAX: Final = 1000
_USER_CHARS_MAX: Final = 256


class KeySource:
    """The issuer's keys; ``fetch`` returns the JWKS, or raises OSError or KeySetError."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._tried_at = float("-inf")
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<KeySource: {len(self._keys)} keys>"

    async def keys(self, *, is_unknown: bool = False) -> Mapping[str, SigningKey]:
        """Return the keys; read them anew if they are old, or one is missing."""
        now = self._clock()
        wanted = is_unknown or now - self._read_at >= REFRESH_S
        if wanted and self._reading is None and now - self._tried_at >= UNKNOWN_KEY_S:
            self._tried_at = now
            self._reading = asyncio.get_running_loop().create_task(self._read(now))
        if self._reading is not None and (is_unknown or not self._keys):
            await asyncio.shield(self._reading)
        return self._keys

    async def _read(self, now: float) -> None:
        try:
            self._keys = read_keys(await self._fetch())
            self._read_at = now
        except (KeySetError, OSError) as error:
            _log.warning("the issuer's keys cannot be read: %s", error)
        except Exception:
            _log.exception("bug in the relay: the issuer's keys are not read")
        finally:
            self._reading = None


class OidcAuthentication:
    """Knows users by tokens of an issuer; ``wall_clock`` is Unix time.

    Without ``tenancy`` there are no projects, and their claim is not read.
    """

    def __init__(
        self,
        settings: OidcSettings,
        source: KeySource,
        wall_clock: Callable[[], float],
        *,
        tenancy: bool = True,
    ) -> None:
        self._settings = settings
        self._tenancy = tenancy
        self._source = source
        self._wall_clock = wall_clock
        self._logged_at = float("-inf")
        self._unlogged = 0

    def __repr__(self) -> str:
        return f"<OidcAuthentication {self._settings.issuer}>"

    def projects(self) -> frozenset[str]:
        """Return no project: those of tokens are known when they come."""
        return frozenset()

    async def principal(self, authorization: str | None) -> Principal | None:
        """Return the user of an ``Authorization`` header, None for one that is not valid."""
        token = bearer(authorization)
        if not token:
            return None
        try:
            try:
                claims = verified_claims(token, await self._source.keys())
            except UnknownKeyError:
                claims = verified_claims(token, await self._source.keys(is_unknown=True))
            return self._user(claims)
        except TokenInvalidError as error:
            self._note(error)
            return None

    def _note(self, error: TokenInvalidError) -> None:
        """Log why a token is refused; not each, as anybody may send them."""
        now = self._wall_clock()
        if abs(now - self._logged_at) < LOG_S:
            self._unlogged += 1
            return
        _log.info("a token is refused: it %s", error, extra={"unlogged": self._unlogged})
        self._logged_at, self._unlogged = now, 0

    def _user(self, claims: Mapping[str, Any]) -> Principal:
        settings = self._settings
        if claims.get("iss") != settings.issuer:
            raise TokenInvalidError("is of another issuer")
        audience = claims.get("aud")
        if settings.audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenInvalidError("is for another audience")
        now = self._wall_clock()
        if now >= _time(claims, "exp") + LEEWAY_S:
            raise TokenInvalidError("has expired")
        if "nbf" in claims and now < _time(claims, "nbf") - LEEWAY_S:
            raise TokenInvalidError("is not valid yet")
        user = claims.get(settings.user_claim)
        if not isinstance(user, str) or not 0 < len(user) <= _USER_CHARS_MAX:
            raise TokenInvalidError(f"has no user in its claim {settings.user_claim}")
        role = claims.get(settings.role_claim)
        if role not in ROLES:
            raise TokenInvalidError(f"has none of the roles in its claim {settings.role_claim}")
        if not self._tenancy:
            return Principal(user, frozenset({EVERY_PROJECT}), role)
        named = claims.get(settings.projects_claim)
        projects = named.split() if isinstance(named, str) else named
        if not isinstance(projects, list) or not 0 < len(projects) <= _PROJECTS_MAX:
            raise TokenInvalidError(f"has no projects in its claim {settings.projects_claim}")
        for project in projects:
            if not isinstance(project, str) or (project != EVERY_PROJECT and name_problem(project)):
                said = f"has a name in its claim {settings.projects_claim} that no project can have"
                raise TokenInvalidError(said)
        return Principal(user, frozenset(projects), role)


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TokenInvalidError(f"has no time in its claim {name}")
    return float(value)


def key_source(settings: OidcSettings, clock: Callable[[], float]) -> KeySource:
    """Return the source of keys that the settings name; raise ConfigError for a bad file."""
    if settings.jwks_file is None:
        return KeySource(lambda: _fetched(settings.jwks_uri), clock)
    path = settings.jwks_file

    async def from_file() -> bytes:
        return await asyncio.to_thread(_read, path)

    try:
        read_keys(_read(path))
    except (KeySetError, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        fault = Fault("api.authentication.oidc.jwksFile", f"{path}: {said}")
        raise ConfigError((fault,)) from error
    return KeySource(from_file, clock)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(JWKS_BYTES_MAX + 1)


async def _fetched(uri: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(uri, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise KeySetError(f"{uri}: was answered with {response.status}")
            body = b""
            while len(body) <= JWKS_BYTES_MAX and (part := await response.content.readany()):
                body += part
            return body
    except TimeoutError as error:
        raise KeySetError(f"{uri}: there was no answer within {_TIMEOUT_S:g} s") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise KeySetError(f"{uri}: its host has no address") from error
    except aiohttp.ClientSSLError as error:
        raise KeySetError(f"{uri}: {error}") from error
    except aiohttp.ClientConnectorError as error:
        reason = os.strerror(error.errno) if error.errno else str(error.os_error)
        raise KeySetError(f"{uri}: cannot be reached: {reason}") from error
    except aiohttp.ClientError as error:
        raise KeySetError(f"{uri}: {type(error).__name__}: {error}") from error
