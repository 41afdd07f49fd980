"""The summaries of a project's exporters, read anew only where an object has another version."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from relay.apiserver.objects.kinds import ResourceKind, served_kinds
from relay.apiserver.store.served_objects import ServedObjects
from relay.runtime.event_loop import give_way
from relay.ui.views.exporter_rows import ExporterListPage, ExporterSummary, list_page, summary_of

KINDS: Final = tuple(kind for kind in served_kinds() if kind.is_custom)
"""Kinds that the list shows."""
_PROJECTS_MAX: Final = 16
_PAGES_MAX: Final = 256
_AT_ONCE: Final = 1000
"""Objects that are read before others run: some 5 ms."""

_Asked = tuple[str, str, str, str]
"""Project, state, query and cursor."""
_Place = tuple[str, str, str]
_Known = dict[_Place, tuple[int, ExporterSummary]]


class Summaries:
    """Summaries of the projects that were asked for last, and pages of them."""

    def __init__(self, objects: ServedObjects) -> None:
        self._objects = objects
        self._projects: OrderedDict[str, _Known] = OrderedDict()
        self._pages: OrderedDict[tuple[str, str, str, str], tuple[int, ExporterListPage]] = (
            OrderedDict()
        )

    async def page(self, project: str, state: str, query: str, after: str) -> ExporterListPage:
        """Return a page of the list as of now."""
        key, version = (project, state, query, after), self._objects.version
        kept = self._pages.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]
        found = list_page(await self.of(project), state=state, query=query, after=after)
        self._pages[key] = version, found
        self._pages.move_to_end(key)
        while len(self._pages) > _PAGES_MAX:
            self._pages.popitem(last=False)
        return found

    async def of(self, project: str) -> list[ExporterSummary]:
        """Return the summaries of a project."""
        before = self._projects.pop(project, {})
        known: _Known = {}
        read = 0
        for kind in KINDS:
            for one in list(self._objects.listed(kind.storage_key, project)):
                place = (kind.storage_key, one.namespace, one.name)
                entry = before.get(place)
                if entry is None or entry[0] != one.version:
                    entry = one.version, summary_of(one.shown, kind.group)
                    read += 1
                    if not read % _AT_ONCE:
                        await give_way()
                known[place] = entry
        self._projects[project] = known
        while len(self._projects) > _PROJECTS_MAX:
            self._projects.popitem(last=False)
        return [summary for _, summary in known.values()]

    def __repr__(self) -> str:
        return f"<Summaries of {len(self._projects)} projects>"


def kind_of(kind: str, group: str) -> ResourceKind | None:
    """Return a kind of the list by its name and group, None for any other."""
    return next((one for one in KINDS if one.kind == kind and one.group == group), None)
