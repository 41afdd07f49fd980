"""Who may read the admin listener: a known ``Host``, and a credential where one is set.

A page of a stranger can make a browser on the operator's network ask any address, and read the
answer where the stranger's own name resolves to it (DNS rebinding). So a ``Host`` that a stranger
could own is refused: what passes is an IP literal, a name of this machine, a name without a dot,
and what ``admin.hosts`` lists. Probes of a kubelet have neither; their paths are open.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from relay.config.settings.ingest_security import Admin
from relay.receiver.authentication import Authenticator

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Paths that say nothing worth protecting."""

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]+))(?::[0-9]{1,5})?")
_SHOWN_CHARS_MAX = 80


class Gate:
    """Decides on requests; ``headers`` go with every refusal."""

    def __init__(self, settings: Admin, headers: dict[str, str]) -> None:
        self._names = {"localhost", socket.gethostname().lower()}
        self._names.update(host.lower() for host in settings.hosts if not host.startswith("*."))
        self._suffixes = (
            ".localhost",
            *(host[1:].lower() for host in settings.hosts if host.startswith("*.")),
        )
        self._authenticator = Authenticator(settings.authentication)
        self._headers = headers

    def knows(self, header: str | None) -> bool:
        """Whether a ``Host`` header, None where absent, is one that no stranger can own."""
        if header is None:
            return True  # no browser leaves it out
        found = _HOST.fullmatch(header.strip())
        if found is None:
            return False
        host = (found[1] or found[2]).lower().rstrip(".")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if found[1]:
                return False
            return "." not in host or host in self._names or host.endswith(self._suffixes)
        return True

    def middleware(self) -> Middleware:
        """For the application of the listener."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return self._refusal(request) or await handler(request)

        return guard

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.path in OPEN_PATHS:
            return None
        host = request.headers.get("Host")
        if not self.knows(host):
            shown = ascii((host or "")[:_SHOWN_CHARS_MAX])
            text = f"Host {shown} is none of this listener's; list it in admin.hosts\n"
            return web.Response(status=421, text=text, headers=self._headers)
        if not self._authenticator.allows(request.headers.get("Authorization")):
            headers = {**self._headers, "WWW-Authenticate": self._authenticator.challenge}
            text = "a valid Authorization header is required\n"
            return web.Response(status=401, text=text, headers=headers)
        return None

    def __repr__(self) -> str:
        return f"<Gate {sorted(self._names)} {self._authenticator!r}>"
