"""The admin listener: what operators and their monitoring read. Nothing can be changed here.

=============  =====================================================================================
``/metrics``   exposition of :mod:`relay.telemetry.registry`, as text or OpenMetrics by the
``Accept`` header
``/healthz``   200 ``ok``: the process runs and its event loop turns
``/readyz``    200, or 503 with the reasons why senders should not be sent here yet; ``degraded``
               names what does not work as it should although senders are served
``/status``    JSON for people: every exporter, every sink, its ledger; ``?pretty`` indents it,
               ``?project=…`` leaves only what that project may see, ``?exporter=…`` one exporter
               (``team/`` all below it), ``?state=…`` sinks in that state
``/explain``   text: who takes ``?series=…`` and why; further ``exporter``, ``account`` and ``all``
=============  =====================================================================================

All but the probes' pages ask for a known ``Host``, and for a credential where one is set
(:mod:`relay.api.access`). Status and reasons come from injected callables; that they hold no
secret is their makers' duty, and no request header or setting is ever shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from relay.api.access import Gate
from relay.api.contract import StatusFilter, StatusView
from relay.config.settings.settings import Address, Admin
from relay.control.explain import ExplainQuery
from relay.receiver.http.listener import SERVER_HEADER, Listener
from relay.receiver.http.tls import server_context
from relay.receiver.request_target import parse_tenant
from relay.runtime.errors import RelayError
from relay.runtime.event_loop import run_in_thread, yield_to_loop
from relay.sink.reporting.health import STATES
from relay.telemetry.registry import Telemetry

WAITING_MAX = 32
"""Requests that may wait for a page that takes long."""

_INDEX = "relay\n\n/metrics\n/healthz\n/readyz\n/status?pretty\n/explain?series=up\n"
_HEADERS = {**SERVER_HEADER, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class AdminServer:
    """Serves the pages above.

    ``not_ready`` returns the reasons not to be ready, none where ready; ``degraded`` what does not
    work as it should although senders are served; ``look`` returns what
    ``/metrics`` and ``/status`` are made of; ``explain`` returns lines and raises RelayError for
    what it cannot answer. All are called on the event loop, for each request.
    """

    def __init__(
        self,
        address: Address,
        telemetry: Telemetry,
        *,
        not_ready: Callable[[], Sequence[str]],
        degraded: Callable[[], Sequence[str]],
        look: Callable[[], Awaitable[StatusView]],
        explain: Callable[[ExplainQuery], Awaitable[Sequence[str]]],
        access: Admin | None = None,
    ) -> None:
        access = access or Admin()
        self._telemetry = telemetry
        self._not_ready = not_ready
        self._degraded = degraded
        self._look = look
        self._explain = explain
        # One at a time: impatient scrapers must not fill the threads that everybody shares. Looked
        # at on the loop, where the counters live; written out in a thread, because with thousands
        # of sinks that takes a second or two, during which senders want to be served.
        self._rendering = asyncio.Lock()
        self._explaining = asyncio.Lock()
        self._waiting = 0
        app = web.Application(middlewares=[Gate(access, _HEADERS).middleware()])
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/status", self._show_status)
        app.router.add_get("/explain", self._show_explanation)
        self._listener = Listener(
            app,
            address,
            setting="adminListen",
            admin=True,
            tls=server_context(access.tls, setting="admin.tls") if access.tls else None,
        )

    async def start(self) -> None:
        """Listen. Raises ConfigError where the address cannot be had."""
        await self._listener.start()

    async def stop(self) -> None:
        """Close every connection; requests in progress end first."""
        await self._listener.stop()

    @property
    def address(self) -> Address:
        """Where it listens; only after :meth:`start`."""
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
        query = request.query
        try:
            account = query.get("account", "")
            question = ExplainQuery(
                query.get("series", ""),
                parse_tenant(account) if account else None,
                query.get("exporter", ""),
                every=bool(query.get("all")),
            )
            async with self._one_at_a_time(self._explaining):
                lines = await self._explain(question)
        except RelayError as error:
            return web.Response(status=400, text=f"{error}\n", headers=_HEADERS)
        return web.Response(text="".join(f"{line}\n" for line in lines), headers=_HEADERS)

    @asynccontextmanager
    async def _one_at_a_time(self, lock: asyncio.Lock) -> AsyncIterator[None]:
        """Wait for one's turn; raises HTTPServiceUnavailable where too many wait already."""
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
        response.enable_compression()  # only where Accept-Encoding allows it
        return response

    def _render(self, view: StatusView, accept: str) -> tuple[bytes, str]:
        return self._telemetry.render(view.snapshot(), accept=accept)

    def __repr__(self) -> str:
        return f"<AdminServer {self._listener!r}>"


def _document(view: StatusView, wanted: StatusFilter, *, pretty: bool) -> bytes:
    document = view.status(wanted)
    if isinstance(document, dict):
        # The encoder lets no other thread run before it is done: exporters one by one.
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
