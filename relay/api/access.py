"""Control access to the admin listener: a known ``Host``, and a credential if one is set.

A web page can make a browser in the operator's network request any address, and read the response
if the page's own host name resolves to it (DNS rebinding). So only these hosts pass: IP literals,
names of this machine, names without a dot, and those in ``admin.hosts``. Kubelet probes send
neither host nor credential; their paths are open.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final

from relay.config.settings.ingest_security import Admin
from relay.receiver.authentication import Authenticator
from relay.receiver.http.whole_answer import WholeAnswer

if TYPE_CHECKING:
    from aiohttp import web

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Paths without access control: their pages contain nothing confidential."""

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]+))(?::[0-9]{1,5})?")
_SHOWN_CHARS_MAX = 80


class Gate:
    """Admit or refuse requests; ``headers`` are sent with every refusal."""

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
        """Return whether a ``Host`` header, None if absent, is one that no foreign site can own."""
        if header is None:
            return True  # browsers always send it
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

    def refusal(self, request: web.BaseRequest) -> WholeAnswer | None:
        """Return the answer to a request that is refused; None: it is admitted."""
        if request.path in OPEN_PATHS:
            return None
        host = request.headers.get("Host")
        if not self.knows(host):
            shown = ascii((host or "")[:_SHOWN_CHARS_MAX])
            text = f"Host {shown} is not a name of this listener; add it to admin.hosts\n"
            return WholeAnswer.of_text(421, text, self._headers)
        if not self._authenticator.allows(request.headers.get("Authorization")):
            headers = {**self._headers, "WWW-Authenticate": self._authenticator.challenge}
            text = "a valid Authorization header is required\n"
            return WholeAnswer.of_text(401, text, headers)
        return None

    def __repr__(self) -> str:
        return f"<Gate {sorted(self._names)} {self._authenticator!r}>"
