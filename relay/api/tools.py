"""Serve the tools for exporters at the admin listener: previews, sink tests and taps.

* ``POST /preview``: the series that an Exporter takes now. The body is its manifest (YAML or JSON,
  with ``?project=`` under tenancy), or empty with ``?exporter=`` for a running one. ``&measure=``
  seconds to measure samples a minute.
* ``POST /test?exporter=…&sink=…``: one synthetic point to one running sink.
* ``GET /tap?exporter=…&sink=…``: points as they are handed to a sink, where ``admin.tap`` allows.

Answers are JSON lines (``application/x-ndjson``): an object each, with ``event``; ``error`` ends an
answer that could not be completed. Requests of web pages are refused: they carry an ``Origin``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from relay.control.tools import ExporterTools
from relay.receiver.http.json_lines import send_lines
from relay.runtime.errors import OverloadedError, RelayError
from relay.runtime.event_loop import run_in_thread

if TYPE_CHECKING:
    from relay.api.tool_events import Opener


class ToolPages:
    """The pages of the tools; ``headers`` are sent with every answer."""

    def __init__(self, tools: ExporterTools, headers: Mapping[str, str]) -> None:
        self._tools = tools
        self._headers = dict(headers)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the pages to a listener's application."""
        router.add_post("/preview", self._answer)
        router.add_post("/test", self._answer)
        router.add_get("/tap", self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Send events as they come; what is wrong with the query is answered before."""
        if hdrs.ORIGIN in request.headers:
            text = "requests of web pages are refused\n"
            return web.Response(status=403, text=text, headers=self._headers)
        openers = await run_in_thread(_openers)
        try:
            events = await openers[request.path](self._tools, request)
        except OverloadedError as error:
            headers = {**self._headers, "Retry-After": str(error.retry_after_s)}
            return web.Response(status=429, text=f"{error}\n", headers=headers)
        except RelayError as error:
            return web.Response(status=400, text=f"{error}\n", headers=self._headers)
        return await send_lines(request, events, self._headers)

    def __repr__(self) -> str:
        return f"<ToolPages {self._tools!r}>"


def _openers() -> Mapping[str, Opener]:
    """Import the tools' modules, which takes 30 ms the first time."""
    from relay.api.tool_events import OPENERS  # noqa: PLC0415 - rare: see relay.control.tools

    return OPENERS
