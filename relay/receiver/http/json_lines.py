"""Send events as lines of JSON while they come.

The answer ends with its events, when the client is gone or reads too slowly, or when the server
closes. What the events hold is released then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.runtime.errors import OverloadedError

_log: Final = logging.getLogger("relay.api")

MEDIA_TYPE: Final = "application/x-ndjson"
WRITE_TIMEOUT_S: Final = 20.0
"""Time that a client may take to read what is sent."""
ANSWER_S_MAX: Final = 600.0
"""Longest duration of an answer, however slowly it is read."""
GONE_CHECK_S: Final = 1.0
"""Time until a client that is gone is noticed while nothing happens."""


async def send_lines(
    request: web.BaseRequest,
    events: AsyncIterator[Mapping[str, Any]],
    headers: Mapping[str, str],
    closing: asyncio.Event | None = None,
    *,
    answer_s_max: float = ANSWER_S_MAX,
) -> web.StreamResponse:
    """Send each event as a line; ``closing`` ends the answer. Closes the events.

    OverloadedError of the events, and a bug in them, is sent as an event ``error``.
    """
    response = web.StreamResponse(headers={**headers, "Content-Type": MEDIA_TYPE})
    with suppress(ConnectionError, TimeoutError):
        async with (
            asyncio.timeout(answer_s_max),
            aclosing(_until_gone(request, events, closing)) as followed,
        ):
            await response.prepare(request)
            try:
                async for event in followed:
                    await _write(response, event)
            except OverloadedError as error:  # others began since it was opened
                await _write(response, {"event": "error", "message": str(error)})
            except (ConnectionError, TimeoutError):
                raise
            except Exception:
                _log.exception("bug in the relay: an answer was not completed")
                message = "a bug in the relay, see its log"
                await _write(response, {"event": "error", "message": message})
            await response.write_eof()
            return response
    # Not completed: the client must not take it for a whole answer.
    response.force_close()
    if request.transport is not None:
        request.transport.abort()
    return response


async def _write(response: web.StreamResponse, event: Mapping[str, Any]) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(msgspec.json.encode(event) + b"\n")


async def _until_gone(
    request: web.BaseRequest,
    events: AsyncIterator[Mapping[str, Any]],
    closing: asyncio.Event | None,
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Yield the events until the client is gone or ``closing`` is set; close them then."""
    async with aclosing(events):  # type: ignore[type-var]  # generators, all of them
        while True:
            following = asyncio.ensure_future(anext(events, None))
            try:
                while not following.done():
                    await asyncio.wait((following,), timeout=GONE_CHECK_S)
                    if _is_gone(request):
                        raise ConnectionResetError("the client is gone")
                    if closing is not None and closing.is_set():
                        return
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
            event = following.result()
            if event is None:
                return
            yield event


def _is_gone(request: web.BaseRequest) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()
