"""The HTTP proxy through which endpoints are reached: the settings' section ``proxy``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relay.config.schema.validate import Reading
from relay.config.settings.ingest_security import credential

VARIABLES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Proxy for requests to endpoints, except for hosts in ``exclude``.

    Entries are host names; ``.suffix`` stands for a domain and all below it.
    """

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    exclude: tuple[str, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """Header fields of a request to the proxy itself."""
        if not self.username:
            return {}
        pair = f"{self.username}:{self.password}".encode()
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def serves(self, host: str) -> bool:
        """Return True if an endpoint of this host is reached through the proxy."""
        name = host.lower().rstrip(".")
        return not any(
            name == one.removeprefix(".") or (one.startswith(".") and name.endswith(one))
            for one in self.exclude
        )


def build_proxy(reading: Reading, values: dict[str, Any] | None, *, base: Path) -> Proxy | None:
    """Return the section ``proxy``; paths are relative to ``base``."""
    if values is None:
        return None
    password, password_file = credential(reading, ("proxy",), values, "password", base)
    hosts = tuple(one.lower().rstrip(".") for one in values.get("exclude", ()) if one is not None)
    url = values.get("url")
    if url is None:
        return None
    return Proxy(url, values.get("username", ""), password, password_file, hosts)


def ignored_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of variables that set a proxy for other programs and not for this one."""
    names = (*VARIABLES, *(name.lower() for name in VARIABLES))
    return tuple(name for name in names if environment.get(name))


def proxy_url_problem(text: str) -> str:
    """Return the fault of a proxy's URL, without repeating it, or ""."""
    from yarl import URL  # noqa: PLC0415 - 2 MiB, for proxies alone

    try:
        url = URL(text)
        port = url.port
    except ValueError:
        return "is not a URL"
    if url.scheme != "http":
        return "must begin with http:// (HTTPS to endpoints goes through it by CONNECT)"
    if url.user is not None or url.password is not None:
        return "must not hold credentials; use username and passwordFile"
    if not url.host or not port or url.path not in ("", "/") or url.query_string or url.fragment:
        return "must be http://host:port"
    return ""
