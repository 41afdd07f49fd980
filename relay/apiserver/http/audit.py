"""One line of the log for every change: the user, the change, and the address it came from."""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web

from relay.apiserver.access.principals import Principal
from relay.apiserver.http.request_target import ResourceTarget

_log: Final = logging.getLogger("relay.api.audit")
_SHOWN_CHARS_MAX: Final = 200


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
    """Log a change that was made (``code`` 2xx) or refused; values are never logged."""
    resource = target.kind.storage_key
    if target.subresource:
        resource += f"/{target.subresource}"
    _log.info(
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
