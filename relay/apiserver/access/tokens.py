"""Bearer tokens from a file: a list of ``{token, user, projects, role, secrets}``.

Tokens are kept and compared as SHA-256, so that the time of a comparison tells nothing of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from relay.apiserver.access.principals import EVERY_PROJECT, ROLES, Principal
from relay.apiserver.objects.metadata import name_problem
from relay.config.yaml.document import Document, Where, read_documents
from relay.runtime.errors import ConfigError, Fault

TOKEN_CHARS_MIN: Final = 16
TOKENS_MAX: Final = 100_000
_FIELDS: Final = ("token", "user", "projects", "role", "secrets")
_READ: Final = "read"


class UserAuthentication(Protocol):
    """Tells the user of a request."""

    async def principal(self, authorization: str | None) -> Principal | None:
        """Return the user of an ``Authorization`` header, None for one that is not valid."""
        ...

    def projects(self) -> frozenset[str]:
        """Return the projects that are named by the configuration, without ``*``."""
        ...


def bearer(authorization: str | None) -> str:
    """Return the token of an ``Authorization`` header, "" for none."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class TokenAuthentication:
    """Knows users by their tokens; ``notices`` are for the operator."""

    def __init__(
        self, users: Mapping[str, Principal] | None = None, notices: tuple[str, ...] = ()
    ) -> None:
        """Take users by the SHA-256 of their tokens, in hexadecimal digits."""
        self._users = dict(users or {})
        self.notices = notices

    def __repr__(self) -> str:
        return f"<TokenAuthentication: {len(self._users)} tokens>"

    def __len__(self) -> int:
        return len(self._users)

    def take(self, other: TokenAuthentication) -> None:
        """Know the users of another one from now on, and no longer the own."""
        self._users, self.notices = other._users, other.notices

    async def principal(self, authorization: str | None) -> Principal | None:
        """Return the user of an ``Authorization`` header, None for one that is not valid."""
        token = bearer(authorization)
        return self._users.get(token_digest(token)) if token else None

    def user_of(self, digest: str) -> Principal | None:
        """Return the user of a token by :func:`token_digest`, None for one that is not valid."""
        return self._users.get(digest)

    def projects(self) -> frozenset[str]:
        """Return the projects that tokens name, without ``*``."""
        named = {project for user in self._users.values() for project in user.projects}
        return frozenset(named - {EVERY_PROJECT})


class NoAuthentication:
    """Takes every request as that of one admin; only for loopback."""

    def __init__(self, user: str = "anonymous") -> None:
        self._principal = Principal(user, frozenset({EVERY_PROJECT}), "admin")

    def __repr__(self) -> str:
        return "<NoAuthentication>"

    async def principal(self, authorization: str | None) -> Principal | None:
        """Return the admin."""
        del authorization
        return self._principal

    def projects(self) -> frozenset[str]:
        """Return no project."""
        return frozenset()


def token_digest(token: str) -> str:
    """Return the SHA-256 by which a token is known."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def read_tokens(path: Path, setting: str, *, tenancy: bool) -> TokenAuthentication:
    """Read a file of tokens; raise ConfigError with every fault, none of which shows a token.

    Without tenancy ``projects`` may be left out, and separate nothing.
    """
    documents = read_documents(path)
    faults: list[Fault] = [
        _fault(document, where, message)
        for document in documents
        for where, message in document.faults
    ]
    value = documents[0].value if len(documents) == 1 else None
    if not isinstance(value, list):
        raise ConfigError(faults or (Fault(setting, "must be one list of tokens", str(path)),))
    (document,) = documents
    if len(value) > TOKENS_MAX:
        raise ConfigError((Fault(setting, f"more than {TOKENS_MAX} tokens", str(path)),))
    users: dict[str, Principal] = {}
    needless = 0
    for index, entry in enumerate(value):
        found = list(_faults(entry, tenancy=tenancy))
        faults += [_fault(document, (index, *where), said) for where, said in found]
        if found:
            continue
        digest = token_digest(entry["token"])
        if digest in users:
            faults.append(_fault(document, (index, "token"), "is listed twice"))
        named = frozenset(entry.get("projects", (EVERY_PROJECT,)))
        needless += not tenancy and EVERY_PROJECT not in named
        reads_secrets = entry.get("secrets") == _READ
        users[digest] = Principal(entry["user"], named, entry["role"], reads_secrets)
    if faults:
        raise ConfigError(faults)
    notices: tuple[str, ...] = ()
    if needless:
        said = (
            "name projects, and there are none without tenancy: they may everything of their role"
        )
        notices = (f"{path}: {needless} of {len(users)} tokens {said}",)
    return TokenAuthentication(users, notices)


def _fault(document: Document, where: Where, message: str) -> Fault:
    """Return a fault with its line; without the line's text, which may hold a token."""
    return replace(document.fault(where, message), excerpt="")


def _faults(entry: Any, *, tenancy: bool) -> list[tuple[Where, str]]:
    if not isinstance(entry, dict):
        return [((), f"must be a mapping of {', '.join(_FIELDS)}")]
    # A name that is not known may be a token: {token:abc} is a mapping with one key.
    unknown = [field for field in entry if field not in _FIELDS]
    found: list[tuple[Where, str]] = [
        ((field,) if _is_plain(field) else (), f"unknown field; known are {', '.join(_FIELDS)}")
        for field in unknown
    ]
    found += [
        ((field,), "must be a text that is not empty")
        for field in ("token", "user")
        if not isinstance(entry.get(field), str) or not entry[field]
    ]
    token = entry.get("token")
    if isinstance(token, str) and token:
        if len(token) < TOKEN_CHARS_MIN:
            message = f"must have at least {TOKEN_CHARS_MIN} characters"
            found.append((("token",), message))
        if not token.isascii() or not token.isprintable() or " " in token:
            found.append((("token",), "must be printable ASCII without blanks"))
    if entry.get("role") not in ROLES:
        found.append((("role",), f"must be one of {', '.join(ROLES)}"))
    if "secrets" in entry:
        if entry["secrets"] != _READ:
            found.append((("secrets",), f'must be "{_READ}", or left out'))
        elif entry.get("role") != "admin":
            found.append((("secrets",), "only has a meaning with role: admin"))
    projects = entry.get("projects")
    if projects is None and not tenancy:
        return found
    if not isinstance(projects, list) or not projects:
        found.append((("projects",), 'must be a list of names, or ["*"]'))
        return found
    for place, project in enumerate(projects):
        if project == EVERY_PROJECT:
            continue
        if not isinstance(project, str) or name_problem(project):
            found.append((("projects", place), "must be the name of a project"))
    return found


def _is_plain(field: Any) -> bool:
    """Return True for what may be shown as the name of a field."""
    return isinstance(field, str) and field.isidentifier() and len(field) < TOKEN_CHARS_MIN
