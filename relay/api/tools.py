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

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from aiohttp import hdrs, web

from relay.control.preview.preview import PreviewEvent, PreviewProgress
from relay.control.preview.service import PreviewQuery
from relay.control.sink_test.service import SinkTestQuery
from relay.control.sink_test.trial import TestEvent
from relay.control.sink_test.verdict import TestStep
from relay.control.tap.tap import TapQuery, tap_document
from relay.control.tools import ExporterTools
from relay.receiver.http.json_lines import send_lines
from relay.runtime.errors import ConfigError, Fault, OverloadedError, RelayError

MANIFEST_BYTES_MAX: Final = 256 * 1024
NUMBER_DIGITS_MAX: Final = 6


class ToolPages:
    """The pages of the tools; ``headers`` are sent with every answer."""

    def __init__(self, tools: ExporterTools, headers: Mapping[str, str]) -> None:
        self._tools = tools
        self._headers = dict(headers)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the pages to a listener's application."""
        router.add_post("/preview", self._preview)
        router.add_post("/test", self._test)
        router.add_get("/tap", self._tap)

    async def _preview(self, request: web.Request) -> web.StreamResponse:
        async def open_events() -> AsyncIterator[dict[str, Any]]:
            query = request.query
            manifest = await _manifest(request)
            preview = PreviewQuery(
                manifest,
                query.get("project", ""),
                query.get("exporter", ""),
                _number("measure", query.get("measure", "0")),
            )
            return _documents(await self._tools.preview.open(preview), _preview_document)

        return await self._answer(request, open_events)

    async def _test(self, request: web.Request) -> web.StreamResponse:
        async def open_events() -> AsyncIterator[dict[str, Any]]:
            query = SinkTestQuery(request.query.get("exporter", ""), request.query.get("sink", ""))
            return _documents(self._tools.test.open(query), _test_document)

        return await self._answer(request, open_events)

    async def _tap(self, request: web.Request) -> web.StreamResponse:
        async def open_events() -> AsyncIterator[dict[str, Any]]:
            text = request.query.get
            query = TapQuery(
                text("exporter", ""),
                text("sink", ""),
                _number("seconds", text("seconds", "10")),
                int(_number("points", text("points", "100"))),
            )
            return _documents(self._tools.tap.open(query), tap_document)

        return await self._answer(request, open_events)

    async def _answer(
        self,
        request: web.Request,
        open_events: Callable[[], Awaitable[AsyncIterator[dict[str, Any]]]],
    ) -> web.StreamResponse:
        """Send events as they come; what is wrong with the query is answered before."""
        if hdrs.ORIGIN in request.headers:
            text = "requests of web pages are refused\n"
            return web.Response(status=403, text=text, headers=self._headers)
        try:
            events = await open_events()
        except OverloadedError as error:
            headers = {**self._headers, "Retry-After": str(error.retry_after_s)}
            return web.Response(status=429, text=f"{error}\n", headers=headers)
        except RelayError as error:
            return web.Response(status=400, text=f"{error}\n", headers=self._headers)
        return await send_lines(request, events, self._headers)

    def __repr__(self) -> str:
        return f"<ToolPages {self._tools!r}>"


async def _documents(
    events: AsyncIterator[Any], form: Callable[[Any], dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    async with aclosing(events):  # type: ignore[type-var]  # generators, all of them
        async for event in events:
            yield form(event)


def _preview_document(event: PreviewEvent) -> dict[str, Any]:
    if isinstance(event, PreviewProgress):
        return {
            "event": "progress",
            "step": event.step,
            "done": round(event.done, 1),
            "of": round(event.of, 1),
        }
    return {"event": "result", **event.document()}


def _test_document(event: TestEvent) -> dict[str, Any]:
    name = "step" if isinstance(event, TestStep) else "verdict"
    return {"event": name, **event.document()}


async def _manifest(request: web.Request) -> str:
    """Return the body as text. Raises ConfigError."""
    size = request.content_length or 0
    if size > MANIFEST_BYTES_MAX:
        raise _too_large()
    body = bytearray()
    async for chunk in request.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MANIFEST_BYTES_MAX:
            raise _too_large()
    try:
        return bytes(body).decode()
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text: byte {error.start} does not belong"
        raise ConfigError([Fault("the manifest", message)]) from error


def _too_large() -> ConfigError:
    return ConfigError([Fault("the manifest", f"is larger than {MANIFEST_BYTES_MAX} bytes")])


def _number(name: str, text: str) -> float:
    """Return a whole number of a query. Raises ConfigError."""
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise ConfigError([Fault(name, "must be a whole number, such as 30")])
    return float(text)
