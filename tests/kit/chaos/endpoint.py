"""An endpoint of OTLP or remote write that fails as told, on a port that it keeps while down."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, get_args

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from tests.kit.http.loopback_server import LoopbackServer
from tests.kit.http.otlp_server import decode_export, partial_success
from tests.kit.oracle.number_points import flatten
from tests.kit.oracle.written_points import VERSION_2, read_written
from tests.own_time import patience

Mode = Literal["ok", "down", "busy", "stall", "reset", "cut", "unauthorized", "small", "partial"]
"""``down`` refuses connections, ``busy`` answers 503, ``stall`` never answers, ``reset`` aborts
inside the body, ``cut`` takes the request and aborts before the answer, ``unauthorized`` answers
401, ``small`` 413 to all but small requests, ``partial`` takes it and says that it did not take one
point."""

MODES: tuple[Mode, ...] = get_args(Mode)
SMALL_POINTS = 40
WRITE_PATH = "/api/v1/write"


class ChaosOracle(Protocol):
    """What an endpoint tells of points or records that it took."""

    def arrive(self, endpoint: str, points: Sequence[Any]) -> None:
        """AssertionError for what was never sent like that."""
        ...


class ChaosEndpoint(LoopbackServer):
    """One endpoint; what it takes it tells the oracle under its name.

    ``points`` decodes metrics of OTLP; remote write, of the version that a request names, is
    decoded as it is.
    """

    def __init__(
        self,
        name: str,
        oracle: ChaosOracle,
        port: int,
        points: Callable[[ExportMetricsServiceRequest], Sequence[Any]] = flatten,
    ) -> None:
        super().__init__(port=port, path="/{path:v1/metrics|v1/logs|v1/traces|api/v1/write}")
        self._points = points
        self.name = name
        self.mode: Mode = "ok"
        self.requests: dict[str, int] = {}
        self.failures: list[BaseException] = []
        self._oracle = oracle
        self._changed = asyncio.Event()

    async def become(self, mode: Mode) -> None:
        """Behave like this from now on."""
        before, self.mode = self.mode, mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode == "down" and before != "down":
            await self.close()
        elif before == "down" and mode != "down":
            await self.open()

    async def misbehave(self, rng: random.Random) -> None:
        """Change behaviour again and again, until cancelled; in the end it is well again."""
        try:
            while True:
                await self.become(rng.choice(MODES))
                await asyncio.sleep(rng.uniform(0.05, 0.6))
                await self.become("ok")
                await asyncio.sleep(rng.uniform(0.02, 0.3))
        finally:
            await self.become("ok")

    async def handle(self, request: web.Request) -> web.Response:
        """Answer as the mode says."""
        try:
            return await self._answer(request)
        except (AssertionError, KeyError) as error:
            self.failures.append(error)
            raise

    async def _answer(self, request: web.Request) -> web.Response:
        mode = self.mode
        self.requests[mode] = self.requests.get(mode, 0) + 1
        if mode == "reset":
            await request.content.readany()
            return _abort(request)
        body = await request.read()
        if mode == "stall":
            with contextlib.suppress(TimeoutError):
                async with patience(5):
                    await self._changed.wait()
            return _abort(request)
        if mode == "busy":
            return web.Response(status=503)
        if mode == "unauthorized":
            return web.Response(status=401)
        points = self.decode(body, request)
        if mode == "small" and len(points) > SMALL_POINTS:
            return web.Response(status=413)
        self._oracle.arrive(self.name, points)
        if mode == "cut":
            return _abort(request)
        return self._taken(request, len(points), rejected=mode == "partial")

    def decode(self, body: bytes, request: web.Request) -> Sequence[Any]:
        """Return what is in a request, in the form that the oracle takes."""
        if request.path == WRITE_PATH:
            assert request.headers["Content-Encoding"] == "snappy"
            return read_written(body, content_type=request.headers["Content-Type"])
        return self._points(decode_export(body, request))

    @staticmethod
    def _taken(request: web.Request, points: int, *, rejected: bool) -> web.Response:
        """The answer to a request that was taken, perhaps but for one point."""
        if request.path != WRITE_PATH:
            reply = partial_success(1, "one point was not to our taste")
            return (
                web.Response(body=reply.body, headers=reply.headers) if rejected else web.Response()
            )
        text = "out of order sample (sampled 1/10) (err-mimir-sample-out-of-order)"
        status = 400 if rejected else 204
        headers = {}
        if VERSION_2 in request.headers["Content-Type"]:
            headers["X-Prometheus-Remote-Write-Samples-Written"] = str(points - rejected)
        return web.Response(status=status, headers=headers, text=text if rejected else None)


def _abort(request: web.Request) -> web.Response:
    """Cut the connection; the response goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
