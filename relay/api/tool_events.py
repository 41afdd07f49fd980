"""Open the tools for exporters by the queries of the admin listener, and give events as JSON.

Imported with the tools' modules, when one is first asked: :mod:`relay.control.tools`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from aiohttp import web

from relay.control.preview.preview import PreviewEvent, PreviewProgress
from relay.control.preview.service import PreviewQuery
from relay.control.sink_test.service import SinkTestQuery
from relay.control.sink_test.trial import TestEvent
from relay.control.sink_test.verdict import TestStep
from relay.control.tap.tap import TapQuery, tap_document
from relay.control.tools import ExporterTools
from relay.receiver.http.arriving_body import read_pieces
from relay.runtime.errors import ConfigError, Fault

MANIFEST_BYTES_MAX: Final = 256 * 1024
NUMBER_DIGITS_MAX: Final = 6

Documents = AsyncIterator[dict[str, Any]]
Opener = Callable[[ExporterTools, web.BaseRequest], Awaitable[Documents]]


async def open_preview(tools: ExporterTools, request: web.BaseRequest) -> Documents:
    """Open a preview. Raises RelayError."""
    query = request.query
    manifest = await _manifest(request)
    preview = PreviewQuery(
        manifest,
        query.get("project", ""),
        query.get("exporter", ""),
        _number("measure", query.get("measure", "0")),
    )
    return _documents(await tools.preview.open(preview), _preview_document)


async def open_test(tools: ExporterTools, request: web.BaseRequest) -> Documents:
    """Open a test of a sink. Raises RelayError."""
    query = SinkTestQuery(request.query.get("exporter", ""), request.query.get("sink", ""))
    return _documents(tools.test.open(query), _test_document)


async def open_tap(tools: ExporterTools, request: web.BaseRequest) -> Documents:
    """Open a tap. Raises RelayError."""
    text = request.query.get
    query = TapQuery(
        text("exporter", ""),
        text("sink", ""),
        _number("seconds", text("seconds", "10")),
        int(_number("points", text("points", "100"))),
    )
    return _documents(tools.tap.open(query), tap_document)


OPENERS: Final[Mapping[str, Opener]] = {
    "/preview": open_preview,
    "/test": open_test,
    "/tap": open_tap,
}
"""By the path of the page."""


async def _documents(
    events: AsyncIterator[Any], form: Callable[[Any], dict[str, Any]]
) -> Documents:
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


async def _manifest(request: web.BaseRequest) -> str:
    """Return the body as text. Raises ConfigError."""
    size = request.content_length or 0
    if size > MANIFEST_BYTES_MAX:
        raise _too_large()
    body = bytearray()

    def take(chunk: bytes) -> None:
        nonlocal body
        body += chunk
        if len(body) > MANIFEST_BYTES_MAX:
            raise _too_large()

    await read_pieces(request, take)
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
