"""Read bodies that are still arriving: those of aiohttp's requests.

Imported when one comes: a relay whose requests are all usual has no aiohttp in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import HttpVersion11, web
from aiohttp.http import HttpProcessingError

from relay.receiver.responses import INCOMPLETE, Reason, RefusedError, Rejection

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read_pieces(request: web.BaseRequest, take: Callable[[bytes], None]) -> None:
    """Hand a body on as it arrives; ask for it first where its sender waits for that.

    Raises RefusedError, and what ``take`` raises.
    """
    try:
        if _expects_continue(request):
            await request.writer.write(_CONTINUE)
            request.writer.output_size = 0  # the response proper has not begun
        while chunk := await request.content.readany():
            take(chunk)
    except (web.RequestPayloadError, HttpProcessingError, OSError) as error:
        # The connection or the chunked coding broke. The sender rarely reads this response.
        raise RefusedError(Rejection(Reason.INCOMPLETE_BODY, INCOMPLETE)) from error


def _expects_continue(request: web.BaseRequest) -> bool:
    """Return whether the sender waits for 100 Continue (RFC 9110, 10.1.1).

    Other expectations may be ignored.
    """
    if request.version != HttpVersion11:
        return False
    return request.headers.get("Expect", "").strip().lower() == "100-continue"
