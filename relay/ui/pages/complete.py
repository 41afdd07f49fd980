"""Answer what may stand at a place of a selector, from the customer's own series and records."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from relay.codec.signal_names import RECORD_SIGNALS
from relay.ui.api_calls import ApiProblemError
from relay.ui.authoring.completion import (
    ROUNDS_MAX,
    CompletionPlace,
    attribute_options,
    inserted,
    options_of,
    place_of,
    selector_for,
)
from relay.ui.pages.tools import act, everything
from relay.ui.rendering import HEADERS
from relay.ui.views.answers import preview_view
from relay.ui.visit import Route, Visit

_TEXT_CHARS_MAX: Final = 16_384


async def complete(visit: Visit) -> web.StreamResponse:
    """Answer with JSON: the range of the word, and what may stand there."""
    fields = await visit.form()
    text, at = fields.get("text", "")[:_TEXT_CHARS_MAX], fields.get("at", "")
    place = place_of(text, int(at) if at.isascii() and at.isdigit() and len(at) < 7 else len(text))
    answer: dict[str, Any] = {"from": 0, "to": 0, "options": []}
    signal = visit.text("signal", 20)
    of_records = signal in RECORD_SIGNALS
    if place is not None and not (of_records and place.expecting == "name"):
        options = await _options(visit, place, signal if of_records else "metrics")
        answer = {
            "from": place.start,
            "to": place.end,
            "kind": place.expecting,
            "options": [{"text": one, "insert": inserted(place, one)} for one in options],
        }
    return web.Response(
        body=msgspec.json.encode(answer), content_type="application/json", headers=HEADERS
    )


async def _options(visit: Visit, place: CompletionPlace, signal: str) -> list[str]:
    """Return the options of a place; fewer where previews are refused, which others wait for."""
    found: list[str] = []
    rounds = ROUNDS_MAX if place.expecting == "value" else 1
    for _ in range(rounds):
        exporter = everything(selector_for(place, found), signal)
        try:
            spec = {"exporter": exporter, "measureSeconds": 0}
            status = await act(visit, "exporterpreviews", "ExporterPreview", "default", spec)
        except ApiProblemError:
            break
        view = preview_view(status)
        if signal == "metrics":
            metrics = [one.name for one in view.total.top_metrics]
            fitting = options_of(place, view.total.first_series, metrics)
        else:
            fitting = attribute_options(place, view.records[0].first_resources)
        more = [one for one in fitting if one not in found]
        found += more
        if not more:
            break
    return sorted(found, key=lambda one: (not one.startswith(place.word), one))


ROUTES: Final = (Route("POST", "complete", complete),)
