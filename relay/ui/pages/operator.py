"""The operator's page: all projects, worst sinks first. For admins of every project alone."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay import __version__
from relay.api.status import StatusSource
from relay.codec.signal_names import RECORD_UNITS
from relay.pipeline.records.results import RecordStatistics
from relay.ui.views.operator_view import HealthFigure, operator_view
from relay.ui.views.quantities import bytes_, count, duration, share
from relay.ui.visit import PageProblemError, Route, Visit

_TEMPLATE: Final = "operator.html"
_LAG_BAD_S: Final = 1.0
"""As in the shipped alert."""
_FULL: Final = 0.8
_QUEUES: Final = "the sinks with the largest queues fill it: mend or pause them, or raise the limit"
_JOURNAL: Final = (
    "sinks that are behind hold it, or requests arrive faster than they are worked off: mend or "
    "pause those sinks, or give the relay more CPU"
)


async def show_operator(visit: Visit) -> web.StreamResponse:
    """Show the relay as its operator sees it."""
    if not visit.is_operator:
        raise PageProblemError(403, "Only an admin of every project sees all of them.")
    look = visit.shared.look
    if look is None:
        raise PageProblemError(404, "This relay shows no figures of its own here.")
    facts = await look()
    view = operator_view(facts, __version__, health_figures(facts))
    values = {"view": view, "here": "operator"}
    if visit.is_part:
        return visit.part(_TEMPLATE, "figures", values)
    return visit.page(_TEMPLATE, values)


def health_figures(facts: StatusSource) -> tuple[HealthFigure, ...]:
    """Return memory, disk, event loop, series, senders and reloads of a relay."""
    memory, lag = facts.memory, facts.lag
    found = [_filled("Memory for data", memory.used_bytes, memory.bytes_max, _QUEUES)]
    if facts.store is not None:
        store = facts.store
        found.append(_filled("Disk for queues", store.used_bytes, store.bytes_max, _QUEUES))
    if facts.journal is not None:
        journal = facts.journal
        found.append(_filled("Journal", journal.bytes, journal.bytes_max, _JOURNAL))
    found += [
        HealthFigure(
            "Event loop lag, highest",
            duration(lag.max_s),
            is_bad=lag.max_s > _LAG_BAD_S,
            advice="give the relay more CPU, or look in its log for what took so long",
        ),
        HealthFigure("Active series", count(facts.engine.table.active)),
        HealthFigure("Samples received", count(facts.engine.received_samples)),
        HealthFigure("Of these selected by none", count(facts.engine.router.unmatched_samples)),
        *(_records_received(view.statistics) for view in facts.records if view.statistics.received),
    ]
    troubles = [
        part.trouble for part in (facts.store, facts.journal) if part is not None and part.trouble
    ]
    found += [
        HealthFigure("Storage", text, is_bad=True, advice="see to its disk: data may be lost")
        for text in troubles
    ]
    changes = facts.changes
    if changes is not None:
        text = f"{changes.applied} applied, the last in {duration(changes.applied_in_s)}"
        if changes.failures:
            text = f"{text}; {changes.failures} failed"
        found.append(
            HealthFigure(
                "Changes of exporters",
                text,
                is_bad=changes.failures > 0,
                advice="look in the relay's log for the reason; the versions before them run on",
            )
        )
    found.append(
        HealthFigure(
            "Endpoints that cannot be reached",
            str(facts.unreachable_endpoints),
            is_bad=facts.unreachable_endpoints > 0,
        )
    )
    return tuple(found)


def _records_received(statistics: RecordStatistics) -> HealthFigure:
    word = f"{RECORD_UNITS[statistics.signal].capitalize()} received"
    told = [f"{count(statistics.unmatched)} selected by none"]
    if statistics.no_tenant:
        told.append(f"{count(statistics.no_tenant)} of no project")
    return HealthFigure(word, f"{count(statistics.received)}; {', '.join(told)}")


def _filled(word: str, used: int, most: int, advice: str) -> HealthFigure:
    text = f"{bytes_(used)} of {bytes_(most)}, {share(used, most)}"
    is_bad = bool(most) and used > _FULL * most
    return HealthFigure(word, text, used, most, is_bad=is_bad, advice=advice)


ROUTES: Final = (Route("GET", "operator", show_operator, is_wide=True),)
