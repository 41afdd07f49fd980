"""One line of the log for every change: the user, the change, and the address it came from."""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web

from relay.apiserver.access.principals import Principal
from relay.apiserver.http.request_target import ResourceTarget

_log: Final = logging.getLogger("relay.api.audit")
_SHOWN_CHARS_MAX: Final = 200
_REFUSED: Final = 300


def note_change(
    request: web.BaseRequest,
    principal: Principal,
    verb: str,
    project: str,
    target: ResourceTarget,
    *,
    code: int,
    reason: str = "",
    dry_run: bool = False,
) -> None:
    """Log a change that was made (``code`` 2xx) or refused; values are never logged.

    A reading of Secrets with their values is logged as well. Relays renew their Leases every few
    seconds: that is for debugging.
    """
    resource = target.kind.storage_key
    if target.subresource:
        resource += f"/{target.subresource}"
    is_renewal = target.kind.plural == "leases" and verb == "update" and code < _REFUSED
    _log.log(
        logging.DEBUG if is_renewal else logging.INFO,
        "%s %s: %d",
        verb,
        resource,
        code,
        extra={
            "user": principal.user[:_SHOWN_CHARS_MAX],
            "role": principal.role,
            "verb": verb,
            "resource": resource,
            "project": project,
            "namespace": target.namespace,
            "object": target.name[:_SHOWN_CHARS_MAX],
            "code": code,
            "reason": reason,
            "dry_run": dry_run,
            "address": request.remote or "",
            "agent": request.headers.get("User-Agent", "")[:_SHOWN_CHARS_MAX],
        },
    )
