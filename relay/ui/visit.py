"""One request of a page by a user, and the parts of the relay that pages share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from aiohttp import web

from relay.api.status import StatusSource
from relay.apiserver.access.principals import EVERY_PROJECT, Principal
from relay.apiserver.http.bodies import read_bytes
from relay.apiserver.http.reads import ComputedStatus
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.store.served_objects import ServedObjects
from relay.control.status.sink_history import SinkHistories
from relay.runtime.event_loop import run_in_thread
from relay.ui.api_calls import ApiCaller
from relay.ui.live import LiveStreams, OncePerTick, RowCache
from relay.ui.rendering import Rendering, redirect
from relay.ui.summaries import Summaries

Look = Callable[[], Awaitable[StatusSource]]
"""Returns the figures of the relay as of now."""
FORM_BYTES_MAX: Final = 512 * 1024
FIELDS_MAX: Final = 1000
_LARGE_BYTES: Final = 64 * 1024
"""Forms above this size are read in a thread: escapes of half a mebibyte take 30 ms."""


class PageProblemError(Exception):
    """A page cannot be shown; ``code`` is that of HTTP."""

    def __init__(self, code: int, message: str) -> None:
        self.code: Final = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Shared:
    """Parts that every page uses; ``clock`` is the wall clock, s."""

    rendering: Rendering
    objects: ServedObjects
    computed: ComputedStatus
    histories: SinkHistories
    summaries: Summaries
    live: LiveStreams
    rows: RowCache
    ticks: OncePerTick[Any]
    tenancy: bool
    has_logout: bool
    look: Look | None
    user_of: Callable[[web.BaseRequest], Awaitable[Principal | None]]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request; ``project`` is "" without tenancy, ``arguments`` are those of the path."""

    request: web.BaseRequest
    user: Principal
    project: str
    api: ApiCaller
    shared: Shared
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """Root of the project's pages."""
        return f"/ui/projects/{self.project}" if self.shared.tenancy else "/ui"

    @property
    def is_part(self) -> bool:
        """True if only a part of a page is asked for, by htmx."""
        return self.request.headers.get("HX-Request") == "true"

    @property
    def may_edit(self) -> bool:
        """True if the user's role may write Exporters."""
        return self.user.role in ("editor", "admin")

    def at(self, arguments: Mapping[str, str]) -> Visit:
        """Return the same request with other arguments."""
        return replace(self, arguments=arguments)

    def url(self, *parts: str, **query: str) -> str:
        """Return the address of a page of the project."""
        path = "/".join([self.base, *(quote(part, safe="") for part in parts)])
        given = {name: value for name, value in query.items() if value}
        return f"{path}?{urlencode(given)}" if given else path

    def exporter_url(self, exporter: str) -> str:
        """Return the address of an exporter's page by its id."""
        parts = exporter.split("/")[1 if self.project else 0 :]
        return self.url("exporters", *parts) if len(parts) == 2 else self.url("exporters")

    def text(self, name: str, chars_max: int = 1000) -> str:
        """Return a field of the query, "" without."""
        return self.request.rel_url.query.get(name, "")[:chars_max]

    async def form(self) -> dict[str, str]:
        """Return the fields of a form, of several of one name the last; raise PageProblemError."""
        try:
            content = await read_bytes(self.request, FORM_BYTES_MAX)
        except ApiRefusalError as error:
            raise PageProblemError(error.code, str(error)) from error
        if len(content) <= _LARGE_BYTES:
            return parsed_form(content)
        return await run_in_thread(lambda: parsed_form(content))

    def text_of(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a template as text."""
        return self.shared.rendering.text(template, {"visit": self, **values})

    def fragment(self, template: str, block: str, values: Mapping[str, Any]) -> str:
        """Return one block of a template as text."""
        return self.shared.rendering.fragment(template, block, {"visit": self, **values})

    def page(
        self, template: str, values: Mapping[str, Any] | None = None, *, status: int = 200
    ) -> web.Response:
        """Return an answer with a page."""
        return self.shared.rendering.answer(self.text_of(template, values or {}), status=status)

    def part(
        self, template: str, block: str, values: Mapping[str, Any], *, status: int = 200
    ) -> web.Response:
        """Return an answer with one block of a page."""
        text = self.fragment(template, block, values)
        return self.shared.rendering.answer(text, status=status)

    def leads_to(self, location: str) -> web.Response:
        """Return an answer that leads to another page, also where htmx asks."""
        if self.is_part:
            return web.Response(status=204, headers={"HX-Redirect": location})
        return redirect(location)

    @property
    def projects(self) -> list[str]:
        """Projects that the user may choose from, in order."""
        if not self.shared.tenancy:
            return []
        if EVERY_PROJECT in self.user.projects:
            return self.shared.objects.projects("namespaces")
        return sorted(self.user.projects)

    @property
    def is_operator(self) -> bool:
        """True if the user is an admin of every project."""
        return self.user.role == "admin" and EVERY_PROJECT in self.user.projects


PageHandler = Callable[[Visit], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A page: ``path`` is relative to the project's, ``{name}`` stands for one segment.

    With tenancy a page that ``is_wide`` is of no project, and only such a page.
    """

    method: str
    path: str
    handler: PageHandler
    is_wide: bool = False

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the arguments of a path, None if it is another page's."""
        pattern = self.path.split("/")
        if len(pattern) != len(segments):
            return None
        found: dict[str, str] = {}
        for wanted, given in zip(pattern, segments, strict=True):
            if wanted.startswith("{"):
                if given in ("", ".", ".."):
                    return None
                found[wanted[1:-1]] = given
            elif wanted != given:
                return None
        return found


def parsed_form(content: bytes) -> dict[str, str]:
    """Return the fields of an encoded form; raise PageProblemError for one that is none."""
    try:
        pairs = parse_qsl(
            content.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(content),
            max_num_fields=FIELDS_MAX,
            errors="strict",
        )
    except (UnicodeError, ValueError) as error:
        raise PageProblemError(400, f"the form cannot be read: {error}") from error
    # Browsers send CR LF for a line's end (HTML standard, form submission).
    return {name: value.replace("\r\n", "\n") for name, value in pairs}
