"""The HTTP proxy through which endpoints are reached: the settings' section ``proxy``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from yarl import URL

from relay.config.settings.ingest_security import read_credential
from relay.config.yaml.fields import Section

EXCLUDED_MAX: Final = 1000
VARIABLES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where requests to endpoints go, but for hosts in ``exclude``: names, and ``.suffix`` for a
    domain and all below it."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    exclude: tuple[str, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """What a request to the proxy itself says besides."""
        if not self.username:
            return {}
        pair = f"{self.username}:{self.password}".encode()
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def serves(self, host: str) -> bool:
        """Tell whether an endpoint of this host is reached through the proxy."""
        name = host.lower().rstrip(".")
        return not any(
            name == one.removeprefix(".") or (one.startswith(".") and name.endswith(one))
            for one in self.exclude
        )


def read_proxy(root: Section, *, base: Path) -> Proxy | None:
    """Read the section ``proxy``; paths are relative to ``base``."""
    with root.section("proxy") as section:
        url = section.text("url", required=True, check=_url_problem)
        username = section.text("username")
        if ":" in username:  # RFC 7617 §2: it ends at the first colon
            section.fault("username", 'must not contain ":"')
        password, password_file = read_credential(section, base, "password")
        if section.has("password") and section.has("passwordFile"):
            section.fault("passwordFile", "give password or passwordFile, not both")
        if password and not username:
            section.fault("username", "is required beside a password")
        exclude = section.texts("exclude", count_max=EXCLUDED_MAX)
    if not url:
        return None
    hosts = tuple(one.lower().rstrip(".") for one in exclude)
    return Proxy(url, username, password, password_file, hosts)


def ignored_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of variables that set a proxy for other programs and not for this one."""
    names = (*VARIABLES, *(name.lower() for name in VARIABLES))
    return tuple(name for name in names if environment.get(name))


def _url_problem(text: str) -> str:
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
