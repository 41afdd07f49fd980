"""The list of exporters: one line of truth each."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.apiserver.store.database import ObjectKeyInStore
from relay.config.exporter.types import id_of
from relay.ui.authoring.path_words import in_words
from relay.ui.live import DIGEST_CHARS, Part, RowCache, digest_of
from relay.ui.summaries import KINDS, kind_of
from relay.ui.views.exporter_rows import ExporterRow, ExporterSummary, row_of
from relay.ui.visit import PageProblemError, Route, Visit

_TEMPLATE: Final = "exporters.html"


async def show_list(visit: Visit) -> web.StreamResponse:
    """Show a page of the list."""
    values = await _values(visit)
    if visit.is_part:
        return visit.part(_TEMPLATE, "results", values)
    return visit.page(_TEMPLATE, values)


async def list_parts(visit: Visit) -> AsyncGenerator[list[Part], None]:
    """Yield the lines of a page as they are at each tick; the whole where it has other lines."""
    shown = visit.text("seen")
    async for tick in visit.shared.live.ticks(visit.project):
        values = await _values(visit, cache=visit.shared.rows, tick=tick)
        rows = [Part(f"row-{row.key}", row.html) for row in values["rows"]]
        if values["seen"] != shown:
            shown = values["seen"]
            html = visit.fragment(_TEMPLATE, "results", values)
            yield [Part("results", html, tuple(rows))]
        else:
            yield rows


async def known_rows(visit: Visit) -> Mapping[str, str]:
    """Return the digests of the lines that the page has, by their ids."""
    values = await _values(visit)
    if values["seen"] != visit.text("seen"):
        return {}
    digests = textwrap.wrap(visit.text("rows"), DIGEST_CHARS)
    ids = [f"row-{row.key}" for row in values["rows"]]
    return dict(zip(ids, digests, strict=False))


async def _values(visit: Visit, *, cache: RowCache | None = None, tick: int = 0) -> dict[str, Any]:
    for kind in KINDS:
        if not visit.user.may("list", kind, ""):
            raise PageProblemError(403, f"Your role may not read {kind.plural}.")
    state, query, after = visit.text("state"), visit.text("q"), visit.text("after")
    page = await visit.shared.summaries.page(visit.project, state, query, after)
    lines = []
    for summary in page.rows:
        key = (visit.project, summary.key)
        html = cache.get(key, tick) if cache is not None else None
        if html is None:
            html = visit.text_of("exporter_row.html", row_values(visit, summary))
            if cache is not None:
                cache.put(key, tick, html)
        lines.append(Line(summary.key, html))
    seen = digest_of(repr((page.counts, page.all, [line.key for line in lines])))
    digests = "".join(digest_of(line.html) for line in lines)
    asked = {"state": state, "q": query, "after": after}
    return {
        "page": page,
        "rows": lines,
        "state": state,
        "query": query,
        "seen": seen,
        "live": visit.url("live", view="exporters", **asked, seen=seen, rows=digests),
    }


class Line:
    """A line of the list: its key, and its HTML."""

    __slots__ = ("html", "key")

    def __init__(self, key: str, html: str) -> None:
        self.key = key
        self.html = html

    def __repr__(self) -> str:
        return f"<Line {self.key}>"


def row_values(visit: Visit, summary: ExporterSummary) -> dict[str, Any]:
    """Return what the template of a line needs; without its object it names sinks by number."""
    return {"row": read_row(visit, summary), "reason": in_words(summary.reason, None)}


def read_row(visit: Visit, summary: ExporterSummary) -> ExporterRow:
    """Return a line with its figures as of now."""
    shared = visit.shared
    kind = kind_of(summary.kind, summary.group)
    assert kind is not None, "summaries are of these kinds"
    place = ObjectKeyInStore(kind.storage_key, visit.project, summary.namespace, summary.name)
    stored = shared.objects.get(place)
    found = shared.computed(kind, stored) if stored is not None else None
    computed = None if found is None else msgspec.json.decode(found)
    exporter = id_of(summary.kind, visit.project, summary.namespace, summary.name)
    return row_of(summary, computed, shared.histories.now(exporter, shared.clock()))


ROUTES: Final = (Route("GET", "exporters", show_list),)
