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
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from relay.api.access import Gate
from relay.api.contract import StatusFilter, StatusView
from relay.api.misdirected import MisdirectedSenders
from relay.api.tools import ToolPages
from relay.codec.otlp.signal_names import SIGNALS, SignalName
from relay.config.settings.settings import Admin, ListenAddress, Settings
from relay.control.replicas.report import REPORT_PATH
from relay.control.tools import ExporterTools
from relay.receiver.http.listener import SERVER_HEADER, Listener
from relay.receiver.http.tls import server_context
from relay.receiver.request_target import parse_tenant
from relay.runtime.errors import ConfigError, Fault, RelayError
from relay.runtime.event_loop import run_in_thread, yield_to_loop
from relay.sink.reporting.health import STATES
from relay.telemetry.registry import Telemetry

if TYPE_CHECKING:
    from relay.control.explain import ExplainQuery

WAITING_MAX = 32
"""Most requests that may wait for a slow page."""
POSITION_DIGITS_MAX = 18
"""Longest position of a report."""

_INGEST_DEFAULT = Settings().listen
_INDEX = "relay\n\n/metrics\n/healthz\n/readyz\n/status?pretty\n/explain?series=up\n"
_HEADERS = {**SERVER_HEADER, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class AdminServer:
    """Serve the pages above.

    ``not_ready`` returns the reasons not to be ready, none if ready; ``degraded`` what works badly
    although senders are served; ``look`` returns the source of ``/metrics`` and ``/status``;
    ``explain`` returns lines and raises RelayError for a question it cannot answer. All are called
    on the event loop, once per request. Without ``tools`` there are none. ``ingest`` is where
    senders belong that post here.
    """

    def __init__(  # noqa: PLR0913 - a composition point: every page is named once, here
        self,
        address: ListenAddress,
        telemetry: Telemetry,
        *,
        not_ready: Callable[[], Sequence[str]],
        degraded: Callable[[], Sequence[str]],
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
        self._look = look
        self._explain = explain
        # One at a time: impatient scrapers must not occupy all threads. The view is taken on the
        # loop, because counters live there, and rendered in a thread: with thousands of sinks that
        # takes a second or two.
        self._rendering = asyncio.Lock()
        self._explaining = asyncio.Lock()
        self._waiting = 0
        # Before the gate: a sender that came to the wrong port must not look for a credential.
        misdirected = MisdirectedSenders(ingest, _HEADERS)
        gate = Gate(access, _HEADERS)
        app = web.Application(middlewares=[misdirected.middleware(), gate.middleware()])
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/status", self._show_status)
        app.router.add_get("/explain", self._show_explanation)
        app.router.add_get(REPORT_PATH, self._show_report)
        if tools is not None:
            ToolPages(tools, _HEADERS).add_to(app.router)
        self._listener = Listener(
            app,
            address,
            setting="adminListen",
            role="admin",
            tls=server_context(access.tls, setting="admin.tls") if access.tls else None,
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

    async def _index(self, _request: web.Request) -> web.Response:
        return web.Response(text=_INDEX, headers=_HEADERS)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = list(self._not_ready())
        body = {"ready": not reasons, "reasons": reasons, "degraded": list(self._degraded())}
        return _json(msgspec.json.encode(body), status=503 if reasons else 200)

    async def _show_status(self, request: web.Request) -> web.Response:
        query, pretty = request.query, "pretty" in request.query
        wanted = StatusFilter(
            query.get("project", ""), query.get("exporter", ""), query.get("state", "")
        )
        if wanted.state and wanted.state not in STATES:
            text = f"state: there is no {wanted.state!r}; one of {', '.join(STATES)}\n"
            return web.Response(status=400, text=text, headers=_HEADERS)
        async with self._one_at_a_time(self._rendering):
            view = await self._look()
            body = await run_in_thread(lambda: _document(view, wanted, pretty=pretty))
        return _json(body)

    async def _show_explanation(self, request: web.Request) -> web.Response:
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
        except RelayError as error:
            return web.Response(status=400, text=f"{error}\n", headers=_HEADERS)
        return web.Response(text="".join(f"{line}\n" for line in lines), headers=_HEADERS)

    async def _show_report(self, request: web.Request) -> web.Response:
        if self.report is None:
            text = "this relay does not watch Kubernetes\n"
            return web.Response(status=404, text=text, headers=_HEADERS)
        since = request.query.get("since", "0")
        if not since.isdecimal() or len(since) > POSITION_DIGITS_MAX:
            text = "since: must be the position of an earlier page\n"
            return web.Response(status=400, text=text, headers=_HEADERS)
        body = self.report(request.query.get("epoch", ""), int(since))
        if body is None:
            headers = {**_HEADERS, "Retry-After": "1"}
            return web.Response(status=503, text="the relay is starting\n", headers=headers)
        return _json(body)

    @asynccontextmanager
    async def _one_at_a_time(self, lock: asyncio.Lock) -> AsyncIterator[None]:
        """Wait for the lock; raise HTTPServiceUnavailable if too many requests wait already."""
        if self._waiting >= WAITING_MAX:
            raise web.HTTPServiceUnavailable(
                text=f"{self._waiting} requests wait already\n",
                headers={**_HEADERS, "Retry-After": "1"},
            )
        self._waiting += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting -= 1

    async def _metrics(self, request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", ()))
        async with self._one_at_a_time(self._rendering):
            view = await self._look()
            body, content_type = await run_in_thread(lambda: self._render(view, accept))
        response = web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})
        response.enable_compression()  # only if Accept-Encoding allows it
        return response

    def _render(self, view: StatusView, accept: str) -> tuple[bytes, str]:
        return self._telemetry.render(view.snapshot(), accept=accept)

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


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", headers=_HEADERS)


def _signal_of(text: str) -> SignalName:
    """Parse the name of a signal. Raise ConfigError."""
    for one in SIGNALS:
        if text == one:
            return one
    raise ConfigError([Fault("signal", f"there is no {text!r}; one of {', '.join(SIGNALS)}")])
