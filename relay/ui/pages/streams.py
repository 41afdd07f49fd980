"""The stream of a page's parts: which parts, by the query's ``view``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from relay.ui.live import Part
from relay.ui.pages import exporter, exporters
from relay.ui.visit import PageProblemError, Route, Visit


async def nothing_known(visit: Visit) -> Mapping[str, str]:
    """Return no digests: everything is sent at the first tick."""
    del visit
    return {}


@dataclass(frozen=True, slots=True)
class LiveView:
    """The parts of one page at each tick; ``known`` are the digests of those it has, by id."""

    parts: Callable[[Visit], AsyncGenerator[list[Part], None]]
    known: Callable[[Visit], Awaitable[Mapping[str, str]]] = nothing_known


VIEWS: Final[Mapping[str, LiveView]] = {
    "exporter": LiveView(exporter.exporter_parts),
    "exporters": LiveView(exporters.list_parts, exporters.known_rows),
}


async def show_stream(visit: Visit) -> web.StreamResponse:
    """Send the parts of a view as they change."""
    view = VIEWS.get(visit.text("view"))
    if view is None:
        raise PageProblemError(404, "There is no such view.")
    live = visit.shared.live
    if visit.request.method == "HEAD":
        status = 429 if live.is_full(visit.user, visit.project) else 200
        return web.Response(status=status, headers={"Content-Type": "text/event-stream"})
    known = await view.known(visit)

    async def is_valid() -> bool:
        return await visit.shared.user_of(visit.request) == visit.user

    return await live.send(
        visit.request, visit.user, visit.project, view.parts(visit), known, is_valid
    )


ROUTES: Final = (Route("GET", "live", show_stream),)
