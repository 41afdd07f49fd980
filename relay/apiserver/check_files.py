"""Read the files that ``api:`` names, for ``relay check``: nothing is opened to be written."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relay.apiserver.access.tokens import read_tokens
from relay.apiserver.compose import AUTHENTICATION, authentication_of
from relay.apiserver.store.encryption import read_cipher
from relay.config.settings.api import ApiSettings
from relay.receiver.http.tls import server_context
from relay.runtime.errors import ConfigError, Fault


@dataclass(slots=True)
class ApiFiles:
    """``faults`` keep the API from starting; ``notices`` are for the operator."""

    tokens: int | None = None
    """Tokens in the file, None if there is no file, or it is faulty."""
    faults: list[Fault] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def check_files(settings: ApiSettings, *, tenancy: bool) -> ApiFiles:
    """Read tokens, keys and certificates; a file that is not there is a fault of the settings."""
    found = ApiFiles()
    users, keys, tls = settings.authentication, settings.encryption_key_file, settings.tls

    def read(work: Callable[[], object]) -> None:
        try:
            work()
        except ConfigError as error:
            found.faults += error.faults

    def read_users() -> None:
        if users.file is not None and users.file.is_file():
            tokens = read_tokens(users.file, f"{AUTHENTICATION}.file", tenancy=tenancy)
            found.tokens = len(tokens)
            found.notices += tokens.notices
            if tokens:
                found.notices += _readable(users.file, f"{AUTHENTICATION}.file")

    def read_keys(path: Path) -> None:
        read_cipher(path, "api.encryptionKeyFile")
        found.notices += _readable(path, "api.encryptionKeyFile")

    read(read_users)
    oidc = users.oidc
    if oidc is not None and oidc.jwks_file is not None and oidc.jwks_file.is_file():
        read(lambda: authentication_of(users, tenancy=tenancy))
    if keys is not None and keys.is_file():
        read(lambda: read_keys(keys))
    if tls is not None and tls.cert_file.is_file() and tls.key_file.is_file():
        read(lambda: server_context(tls, setting="api.tls"))
        found.notices += _readable(tls.key_file, "api.tls.keyFile")
    return found


def _readable(path: Path, setting: str) -> list[str]:
    """Return a notice for a file of secrets that every user of this machine may read."""
    if not path.stat().st_mode & stat.S_IROTH:
        return []
    return [f"{setting}: {path}: every user of this machine may read it: chmod o-r {path}"]
