"""Answer senders that post remote write to the admin listener.

They are told where it belongs, and each is logged at the rate of
:class:`relay.receiver.counters.RefusalLog`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from relay.config.settings.settings import ListenAddress
from relay.receiver.counters import RefusalLog
from relay.receiver.http.whole_answer import WholeAnswer
from relay.receiver.request_target import tenant_of
from relay.receiver.responses import Answer, Reason, RefusedError

if TYPE_CHECKING:
    from aiohttp import web

_log = logging.getLogger("relay.receiver")


_CONTENT_TYPE = "application/x-protobuf"


class MisdirectedSenders:
    """Refuses what is remote write by its path or content type.

    ``ingest`` is the setting ``listen``; ``headers`` are sent with every answer.
    """

    def __init__(self, ingest: ListenAddress, headers: Mapping[str, str]) -> None:
        self._text = (
            "this is the admin listener; remote write belongs to the ingest listener, "
            f"{ingest} (setting listen), path /api/v1/write"
        )
        self._headers = dict(headers)
        self._refusals = RefusalLog(_log)

    def refusal(self, request: web.BaseRequest) -> WholeAnswer | None:
        """Return the answer to remote write; None for any other request."""
        if request.method != "POST" or not _is_remote_write(request):
            return None
        answer = Answer(404, self._text, refused=Reason.NOT_FOUND)
        self._refusals.log(
            answer,
            sender=request.remote or "",
            agent=request.headers.get("User-Agent", ""),
            path=request.path,
            now=time.monotonic(),
        )
        return WholeAnswer.of_text(404, f"{self._text}\n", self._headers)

    def __repr__(self) -> str:
        return f"<MisdirectedSenders {self._refusals!r}>"


def _is_remote_write(request: web.BaseRequest) -> bool:
    if request.content_type == _CONTENT_TYPE:
        return True
    try:
        tenant_of(request.path)
    except RefusedError as error:
        return error.refusal.reason is not Reason.NOT_FOUND  # else an account that is none
    return True
