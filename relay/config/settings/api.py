"""Settings of the relay's own API: the section ``api``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from relay.config.schema.rules import Rule
from relay.config.schema.validate import Reading
from relay.config.settings.addresses import ListenAddress, address_of, is_loopback
from relay.config.settings.ingest_security import ServerTls
from relay.config.yaml.document import Where

ApiAuthenticationType = Literal["tokens", "oidc", "none"]

DATABASE_FILE: Final = "api.db"
SESSIONS_FILE: Final = "ui-sessions.json"
"""Sessions of the pages, beside the database."""
CERTIFICATES_DIRECTORY: Final = "api-pki"
_TYPE: Final = (("type",),)
_LISTEN: Final = ListenAddress("127.0.0.1", 9492)


class OidcSettings(msgspec.Struct, frozen=True):
    """Access by tokens of an issuer; exactly one of ``jwks_uri`` and ``jwks_file`` is set."""

    issuer: str
    audience: str
    jwks_uri: str = ""
    jwks_file: Path | None = None
    user_claim: str = "sub"
    projects_claim: str = "projects"
    role_claim: str = "role"
    client_id: str = ""


class ApiAuthentication(msgspec.Struct, frozen=True):
    """Access of users: ``file`` is set with type ``tokens``, ``oidc`` with ``oidc``."""

    type: ApiAuthenticationType = "tokens"
    file: Path | None = None
    oidc: OidcSettings | None = None


class ApiSettings(msgspec.Struct, frozen=True):
    """The API: ``path`` is its database, ``http_listen`` None for no listener without TLS."""

    path: Path
    listen: ListenAddress = _LISTEN
    http_listen: ListenAddress | None = None
    tls: ServerTls | None = None
    hostnames: tuple[str, ...] = ()
    encryption_key_file: Path | None = None
    authentication: ApiAuthentication = msgspec.field(default_factory=ApiAuthentication)

    @property
    def directory(self) -> Path:
        """Directory of the certificates that the relay makes itself."""
        return self.path.parent / CERTIFICATES_DIRECTORY


def build_api(
    reading: Reading, values: dict[str, Any] | None, *, base: Path, storage: Path | None
) -> ApiSettings | None:
    """Return the section ``api``; paths are relative to ``base``.

    ``storage`` is the data directory, None without. Files that are named must exist.
    """
    if values is None or ("path" not in values and storage is None):
        return None
    database = base / values["path"] if "path" in values else (storage or base) / DATABASE_FILE
    listen = address_of(values, "listen", _LISTEN)
    plain = address_of(values, "httpListen", _LISTEN) if "httpListen" in values else None
    authentication = values.get("authentication", {})
    if plain is not None and not is_loopback(plain.host):
        message = f"must be an address of this machine alone, such as 127.0.0.1:{plain.port}"
        reading.fault("api", "httpListen", message=message)
    if plain is not None and plain == listen and listen.port:
        reading.fault("api", "httpListen", message=f"must not be the same as api.listen, {listen}")
    if authentication.get("type") == "none" and not is_loopback(listen.host):
        message = "must be an address of this machine alone with api.authentication.type: none"
        reading.fault("api", "listen", message=message)
    return ApiSettings(
        path=database,
        listen=listen,
        http_listen=plain,
        tls=_tls(reading, values.get("tls", {}), base),
        hostnames=tuple(one for one in values.get("hostnames", ()) if one is not None),
        encryption_key_file=_file(reading, ("api",), values, "encryptionKeyFile", base),
        authentication=_authentication(reading, authentication, base),
    )


def _authentication(reading: Reading, values: dict[str, Any], base: Path) -> ApiAuthentication:
    place = ("api", "authentication")
    return ApiAuthentication(
        type=values.get("type", "tokens"),
        file=_file(reading, place, values, "file", base),
        oidc=_oidc(reading, (*place, "oidc"), values.get("oidc", {}), base),
    )


def _oidc(
    reading: Reading, place: Where, values: dict[str, Any], base: Path
) -> OidcSettings | None:
    if "issuer" not in values or "audience" not in values:
        return None
    default = OidcSettings("", "")
    return OidcSettings(
        issuer=values["issuer"],
        audience=values["audience"],
        jwks_uri=values.get("jwksUri", ""),
        jwks_file=_file(reading, place, values, "jwksFile", base),
        user_claim=values.get("userClaim", default.user_claim),
        projects_claim=values.get("projectsClaim", default.projects_claim),
        role_claim=values.get("roleClaim", default.role_claim),
        client_id=values.get("clientId", ""),
    )


def _tls(reading: Reading, values: dict[str, Any], base: Path) -> ServerTls | None:
    certificate, key = (
        _file(reading, ("api", "tls"), values, name, base) for name in ("certFile", "keyFile")
    )
    return None if certificate is None or key is None else ServerTls(certificate, key)


def _file(
    reading: Reading, place: Where, values: dict[str, Any], key: str, base: Path
) -> Path | None:
    """Return a file that has to be there when the relay starts, None if none is named."""
    if key not in values:
        return None
    path: Path = base / values[key]
    if not os.path.isfile(path):
        reading.fault(*place, key, message=f"no such file: {path}")
    return path


def _has_path(settings: Any) -> bool:
    api = settings.get("api")
    return not isinstance(api, dict) or "path" in api or "storage" in settings


API_RULES: Final = {
    "apiPath": Rule(
        cel="!has(self.api) || has(self.api.path) || has(self.storage)",
        holds=_has_path,
        message="is required without storage",
        field="api.path",
    ),
    "tokensFile": Rule(
        cel="self.type != 'tokens' || has(self.file)",
        holds=lambda self: self["type"] != "tokens" or "file" in self,
        message="is required with type: tokens",
        field="file",
        reads=_TYPE,
    ),
    "tokensFileUnused": Rule(
        cel="self.type == 'tokens' || !has(self.file)",
        holds=lambda self: self["type"] == "tokens" or "file" not in self,
        message="has no meaning with type: {type}",
        field="file",
        reads=_TYPE,
    ),
    "oidcNeeded": Rule(
        cel="self.type != 'oidc' || has(self.oidc)",
        holds=lambda self: self["type"] != "oidc" or "oidc" in self,
        message="is required with type: oidc",
        field="oidc",
        reads=_TYPE,
    ),
    "oidcUnused": Rule(
        cel="self.type == 'oidc' || !has(self.oidc)",
        holds=lambda self: self["type"] == "oidc" or "oidc" not in self,
        message="has no meaning with type: {type}",
        field="oidc",
        reads=_TYPE,
    ),
    "oneKeySet": Rule(
        cel="has(self.jwksUri) != has(self.jwksFile)",
        holds=lambda self: ("jwksUri" in self) != ("jwksFile" in self),
        message="needs exactly one of jwksUri and jwksFile",
    ),
}
"""By name."""
