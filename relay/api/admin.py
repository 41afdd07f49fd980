"""Serve the admin listener: pages and tools for operators and their monitoring.

* ``/metrics``: exposition of :mod:`relay.telemetry.registry`, text or OpenMetrics by ``Accept``.
* ``/healthz``: 200 ``ok`` while the event loop runs.
* ``/readyz``: 200, or 503 with the reasons; ``degraded`` names faults that do not affect senders.
* ``/status``: JSON of exporters, sinks and ledgers. ``?pretty`` indents; ``?project=…`` shows only
  what that project may see; ``?exporter=…`` one exporter (``team/`` all below it); ``?state=…``
  sinks in that state.
* ``/explain``: text on the exporters that match ``?series=…``; also ``exporter``, ``account``,
  ``all``.
* ``/replicas/report``: statuses of objects on Kubernetes, for the relays beside this one.
* ``/preview``, ``/test``, ``/tap``: :mod:`relay.api.tools`.

All but the probes' pages require a known ``Host``, and a credential if one is set
(:mod:`relay.api.access`). The injected callables must not return secrets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from relay.api.access import Gate
from relay.api.contract import ScrapeView, StatusFilter, StatusView
from relay.api.misdirected import MisdirectedSenders
from relay.api.tools import METHODS as TOOL_METHODS
from relay.api.tools import ToolPages
from relay.codec.compression import compress
from relay.codec.signal_names import SIGNALS, SignalName
from relay.config.settings.settings import Admin, ListenAddress, Settings
from relay.control.replicas.report import REPORT_PATH
from relay.control.tools import ExporterTools
from relay.receiver.http.listener import Listener, UsualService
from relay.receiver.http.tls import server_context
from relay.receiver.http.whole_answer import SERVER_HEADER, WholeAnswer
from relay.receiver.request_target import parse_tenant
from relay.runtime.errors import ConfigError, Fault, OverloadedError, RelayError
from relay.runtime.event_loop import run_in_thread, yield_to_loop
from relay.sink.reporting.health import STATES
from relay.telemetry.registry import Telemetry

if TYPE_CHECKING:
    from aiohttp import web

    from relay.control.explain import ExplainQuery

    _Answer = WholeAnswer | web.StreamResponse

WAITING_MAX = 32
"""Most requests that may wait for a slow page."""
POSITION_DIGITS_MAX = 18
"""Longest position of a report."""

_INGEST_DEFAULT = Settings().listen
_INDEX = "relay\n\n/metrics\n/healthz\n/readyz\n/status?pretty\n/explain?series=up\n"
_USUAL_PATHS: Final = frozenset({"/", "/metrics", "/healthz", "/readyz", "/status"})
"""Pages that probes and scrapers ask for, without a query."""
_HEADERS = {**SERVER_HEADER, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class _Page(NamedTuple):
    """A page: what answers, and to which method."""

    answer: Callable[[web.BaseRequest], Awaitable[_Answer]]
    method: str = "GET"


class AdminServer:
    """Serve the pages above.

    ``not_ready`` returns the reasons not to be ready, none if ready; ``degraded`` what works badly
    although senders are served; ``measure`` returns the source of ``/metrics``, ``look`` that of
    ``/status``; ``explain`` returns lines and raises RelayError for a question it cannot answer.
    All are called on the event loop, once per request. Without ``tools`` there are none. ``ingest``
    is where senders belong that post here.
    """

    def __init__(  # noqa: PLR0913 - a composition point: every page is named once, here
        self,
        address: ListenAddress,
        telemetry: Telemetry,
        *,
        not_ready: Callable[[], Sequence[str]],
        degraded: Callable[[], Sequence[str]],
        measure: Callable[[], Awaitable[ScrapeView]],
        look: Callable[[], Awaitable[StatusView]],
        explain: Callable[[ExplainQuery], Awaitable[Sequence[str]]],
        tools: ExporterTools | None = None,
        access: Admin | None = None,
        ingest: ListenAddress = _INGEST_DEFAULT,
    ) -> None:
        access = access or Admin()
        self.report: Callable[[str, int], bytes | None] | None = None
        """Returns a page of the report for other relays, from a position of an epoch on; None while
        it is not ready; itself None where this relay does not watch Kubernetes."""
        self._telemetry = telemetry
        self._not_ready = not_ready
        self._degraded = degraded
        self._measure = measure
        self._look = look
        self._explain = explain
        # One at a time: impatient scrapers must not occupy all threads. The view is taken on the
        # loop, because counters live there, and rendered in a thread: with thousands of sinks that
        # takes a second or two.
        self._rendering = asyncio.Lock()
        self._explaining = asyncio.Lock()
        self._waiting = 0
        # Before the gate: a sender that came to the wrong port must not look for a credential.
        self._misdirected = MisdirectedSenders(ingest, _HEADERS)
        self._gate = Gate(access, _HEADERS)
        self._pages: dict[str, _Page] = {
            "/": _Page(self._index),
            "/metrics": _Page(self._metrics),
            "/healthz": _Page(self._healthz),
            "/readyz": _Page(self._readyz),
            "/status": _Page(self._show_status),
            "/explain": _Page(self._show_explanation),
            REPORT_PATH: _Page(self._show_report),
        }
        if tools is not None:
            answer = ToolPages(tools, _HEADERS).answer
            self._pages |= {path: _Page(answer, method) for path, method in TOOL_METHODS.items()}
        self._listener = Listener(
            self._handle,
            address,
            setting="adminListen",
            role="admin",
            tls=server_context(access.tls, setting="admin.tls") if access.tls else None,
            usual=UsualService(lambda method, path: method == "GET" and path in _USUAL_PATHS),
        )

    async def start(self) -> None:
        """Start listening. Raise ConfigError if the address is not available."""
        await self._listener.start()

    async def stop(self) -> None:
        """Close every connection after its request in progress."""
        await self._listener.stop()

    @property
    def address(self) -> ListenAddress:
        """The bound address; only after :meth:`start`."""
        return self._listener.address

    async def _handle(self, request: web.BaseRequest) -> _Answer:
        refusal = self._misdirected.refusal(request) or self._gate.refusal(request)
        if refusal is not None:
            return refusal
        page = self._pages.get(request.path)
        if page is None:
            return WholeAnswer.of_text(404, "404: Not Found", _HEADERS)
        methods = ("GET", "HEAD") if page.method == "GET" else (page.method,)
        if request.method not in methods:
            headers = {**_HEADERS, "Allow": ",".join(methods)}
            return WholeAnswer.of_text(405, "405: Method Not Allowed", headers)
        try:
            return await page.answer(request)
        except OverloadedError as error:
            headers = {**_HEADERS, "Retry-After": str(error.retry_after_s)}
            return WholeAnswer.of_text(503, f"{error}\n", headers)

    async def _index(self, _request: web.BaseRequest) -> WholeAnswer:
        return WholeAnswer.of_text(200, _INDEX, _HEADERS)

    async def _healthz(self, _request: web.BaseRequest) -> WholeAnswer:
        return WholeAnswer.of_text(200, "ok\n", _HEADERS)

    async def _readyz(self, _request: web.BaseRequest) -> WholeAnswer:
        reasons = list(self._not_ready())
        body = {"ready": not reasons, "reasons": reasons, "degraded": list(self._degraded())}
        return _json(msgspec.json.encode(body), status=503 if reasons else 200)

    async def _show_status(self, request: web.BaseRequest) -> WholeAnswer:
        query, pretty = request.query, "pretty" in request.query
        wanted = StatusFilter(
            query.get("project", ""), query.get("exporter", ""), query.get("state", "")
        )
        if wanted.state and wanted.state not in STATES:
            text = f"state: there is no {wanted.state!r}; one of {', '.join(STATES)}\n"
            return WholeAnswer.of_text(400, text, _HEADERS)
        async with self._one_at_a_time(self._rendering):
            view = await self._look()
            body = await run_in_thread(lambda: _document(view, wanted, pretty=pretty))
        return _json(body)

    async def _show_explanation(self, request: web.BaseRequest) -> WholeAnswer:
        from relay.control.explain import ExplainQuery  # noqa: PLC0415 - rare: see tools.py

        query = request.query
        try:
            account = query.get("account", "")
            question = ExplainQuery(
                query.get("series", ""),
                parse_tenant(account) if account else None,
                query.get("exporter", ""),
                every=bool(query.get("all")),
                signal=_signal_of(query.get("signal", "metrics")),
            )
            async with self._one_at_a_time(self._explaining):
                lines = await self._explain(question)
        except OverloadedError:
            raise
        except RelayError as error:
            return WholeAnswer.of_text(400, f"{error}\n", _HEADERS)
        return WholeAnswer.of_text(200, "".join(f"{line}\n" for line in lines), _HEADERS)

    async def _show_report(self, request: web.BaseRequest) -> WholeAnswer:
        if self.report is None:
            text = "this relay does not watch Kubernetes\n"
            return WholeAnswer.of_text(404, text, _HEADERS)
        since = request.query.get("since", "0")
        if not since.isdecimal() or len(since) > POSITION_DIGITS_MAX:
            text = "since: must be the position of an earlier page\n"
            return WholeAnswer.of_text(400, text, _HEADERS)
        body = self.report(request.query.get("epoch", ""), int(since))
        if body is None:
            headers = {**_HEADERS, "Retry-After": "1"}
            return WholeAnswer.of_text(503, "the relay is starting\n", headers)
        return _json(body)

    @asynccontextmanager
    async def _one_at_a_time(self, lock: asyncio.Lock) -> AsyncIterator[None]:
        """Wait for the lock; raise OverloadedError if too many requests wait already."""
        if self._waiting >= WAITING_MAX:
            raise OverloadedError(f"{self._waiting} requests wait already")
        self._waiting += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting -= 1

    async def _metrics(self, request: web.BaseRequest) -> WholeAnswer:
        accept = ",".join(request.headers.getall("Accept", ()))
        is_packed = "gzip" in request.headers.get("Accept-Encoding", "").lower()
        async with self._one_at_a_time(self._rendering):
            views = [await self._measure()]
            return await run_in_thread(lambda: self._render(views, accept, is_packed=is_packed))

    def _render(self, views: list[ScrapeView], accept: str, *, is_packed: bool) -> WholeAnswer:
        # Nobody else has the view: beside 10,000 sinks its reports are as large as half the page.
        snapshot = views.pop().snapshot()
        body, content_type = self._telemetry.render(snapshot, accept=accept)
        headers = {**_HEADERS, "Content-Type": content_type}
        if is_packed:
            return WholeAnswer(200, {**headers, "Content-Encoding": "gzip"}, compress(body, "gzip"))
        return WholeAnswer(200, headers, body)

    def __repr__(self) -> str:
        return f"<AdminServer {self._listener!r}>"


def _document(view: StatusView, wanted: StatusFilter, *, pretty: bool) -> bytes:
    document = view.status(wanted)
    if isinstance(document, dict):
        # The encoder holds the GIL until it is done: encode exporters one by one.
        document = {
            key: [_encoded(one) for one in value] if isinstance(value, list) else value
            for key, value in document.items()
        }
    body = msgspec.json.encode(document)
    return msgspec.json.format(body, indent=2) if pretty else body


def _encoded(document: object) -> msgspec.Raw:
    yield_to_loop()
    return msgspec.Raw(msgspec.json.encode(document))


def _json(body: bytes, *, status: int = 200) -> WholeAnswer:
    return WholeAnswer(status, {**_HEADERS, "Content-Type": "application/json"}, body)


def _signal_of(text: str) -> SignalName:
    """Parse the name of a signal. Raise ConfigError."""
    for one in SIGNALS:
        if text == one:
            return one
    raise ConfigError([Fault("signal", f"there is no {text!r}; one of {', '.join(SIGNALS)}")])
