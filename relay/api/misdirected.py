"""Answer senders that post remote write or OTLP to the admin listener.

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
from relay.receiver.otlp.answers import otlp_answer
from relay.receiver.otlp.target import answer_type_of, otlp_target
from relay.receiver.request_target import tenant_of
from relay.receiver.responses import Answer, Reason, RefusedError, Rejection

if TYPE_CHECKING:
    from aiohttp import web

_log = logging.getLogger("relay.receiver")


_CONTENT_TYPE = "application/x-protobuf"


class MisdirectedSenders:
    """Refuses what is remote write or OTLP by its path or content type.

    ``ingest`` is the setting ``listen``; ``headers`` are sent with every answer.
    """

    def __init__(self, ingest: ListenAddress, headers: Mapping[str, str]) -> None:
        self._ingest = ingest
        self._headers = dict(headers)
        self._refusals = RefusalLog(_log)

    def refusal(self, request: web.BaseRequest) -> WholeAnswer | None:
        """Return the answer to remote write or OTLP; None for any other request."""
        if request.method != "POST":
            return None
        target = otlp_target(request.path)
        if target is not None:
            rejection = self._rejection("OTLP", f"/v1/{target.signal}")
            media_type = answer_type_of(request.headers.get("Content-Type"))
            answer = otlp_answer(rejection, target.signal, media_type)
            sent = WholeAnswer(
                answer.status, {**self._headers, **answer.headers}, answer.body or b""
            )
        elif _is_remote_write(request):
            rejection = self._rejection("remote write", "/api/v1/write")
            answer = Answer(404, rejection.text, refused=rejection.reason)
            sent = WholeAnswer.of_text(answer.status, f"{answer.text}\n", self._headers)
        else:
            return None
        self._refusals.log(
            answer,
            sender=request.remote or "",
            agent=request.headers.get("User-Agent", ""),
            path=request.path,
            now=time.monotonic(),
        )
        return sent

    def _rejection(self, what: str, path: str) -> Rejection:
        return Rejection(
            Reason.NOT_FOUND,
            f"this is the admin listener; {what} belongs to the ingest listener, "
            f"{self._ingest} (setting listen), path {path}",
        )

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
