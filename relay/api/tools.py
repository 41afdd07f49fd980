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
from typing import TYPE_CHECKING, Final

from relay.control.tools import ExporterTools
from relay.receiver.http.whole_answer import WholeAnswer
from relay.runtime.errors import OverloadedError, RelayError
from relay.runtime.event_loop import run_in_thread

if TYPE_CHECKING:
    from aiohttp import web

    from relay.api.tool_events import Opener


METHODS: Final[Mapping[str, str]] = {"/preview": "POST", "/test": "POST", "/tap": "GET"}
"""By the path of the page."""


class ToolPages:
    """The pages of the tools; ``headers`` are sent with every answer."""

    def __init__(self, tools: ExporterTools, headers: Mapping[str, str]) -> None:
        self._tools = tools
        self._headers = dict(headers)

    async def answer(self, request: web.BaseRequest) -> WholeAnswer | web.StreamResponse:
        """Send events as they come; what is wrong with the query is answered before."""
        if "Origin" in request.headers:
            return WholeAnswer.of_text(403, "requests of web pages are refused\n", self._headers)
        openers = await run_in_thread(_openers)
        try:
            events = await openers[request.path](self._tools, request)
        except OverloadedError as error:
            headers = {**self._headers, "Retry-After": str(error.retry_after_s)}
            return WholeAnswer.of_text(429, f"{error}\n", headers)
        except RelayError as error:
            return WholeAnswer.of_text(400, f"{error}\n", self._headers)
        from relay.receiver.http.json_lines import send_lines  # noqa: PLC0415 - needs aiohttp

        return await send_lines(request, events, self._headers)

    def __repr__(self) -> str:
        return f"<ToolPages {self._tools!r}>"


def _openers() -> Mapping[str, Opener]:
    """Import the tools' modules, which takes 30 ms the first time."""
    from relay.api.tool_events import OPENERS  # noqa: PLC0415 - rare: see relay.control.tools

    return OPENERS
