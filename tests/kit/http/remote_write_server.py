"""A remote-write receiver on 127.0.0.1 that behaves as well-known ones do, or as told.

It decodes by the official classes, without any of the relay's own code, and keeps what it stored.
Like Prometheus it takes a sample only if it is newer than the last of its series; the same one
again is no fault, and is not stored twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import cramjam
from aiohttp import web

from tests.kit.http.loopback_server import LoopbackServer
from tests.kit.http.otlp_server import Reply
from tests.kit.remote_write.prompb import RequestV2, WriteRequest
from tests.own_time import patience

Receiver = Literal["prometheus", "mimir", "victoriametrics"]
"""``prometheus`` takes both versions: it rolls a faulty request of 1.0 back, and stores the rest of
one of 2.0. ``mimir`` takes 1.0 and stores the rest. ``victoriametrics`` takes everything of 1.0,
and answers 2.0 as if it did."""

Labels = tuple[tuple[str, str], ...]
Refuses = Callable[[Labels, int, float], str]
"""(labels, time in ms, value) -> the text of the fault, "" for none."""

VERSION_2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
PAGE = b"<html><title>Sign in</title>Welcome</html>"


class Point(NamedTuple):
    """One sample."""

    labels: Labels
    time_ms: int
    value: float


@dataclass(frozen=True)
class Written:
    """One request as it arrived; ``status`` is what it was answered, 0 for nothing yet."""

    headers: Mapping[str, str]
    body: bytes
    points: tuple[Point, ...]
    status: int = 0

    @property
    def version(self) -> str:
        """The version by the media type."""
        return "2.0" if self.headers["Content-Type"] == VERSION_2 else "1.0"


def never(_labels: Labels, _time_ms: int, _value: float) -> str:
    """Refuse nothing but what is out of order."""
    return ""


@dataclass
class Storage:
    """Samples by series, as they were stored."""

    refuses: Refuses = never
    series: dict[Labels, list[tuple[int, float]]] = field(default_factory=dict)

    def problem(self, point: Point, pending: Mapping[Labels, tuple[int, float]]) -> str:
        """The fault of a sample behind what is stored and pending, "" for none."""
        found = self.refuses(*point)
        stored = self.series.get(point.labels)
        last = pending.get(point.labels) or (stored[-1] if stored else None)
        if found or last is None or last == (point.time_ms, point.value):
            return found
        if point.time_ms == last[0]:
            return "duplicate sample for timestamp"
        return "out of order sample" if point.time_ms < last[0] else ""

    def add(self, points: list[Point]) -> None:
        """Store samples."""
        for point in points:
            samples = self.series.setdefault(point.labels, [])
            if not samples or samples[-1] != (point.time_ms, point.value):
                samples.append((point.time_ms, point.value))

    def write(self, points: tuple[Point, ...], *, rolls_back: bool) -> tuple[int, str]:
        """Store the good samples, all or none with ``rolls_back``.

        Returns how many were stored or stood there already, and the first fault.
        """
        good: list[Point] = []
        pending: dict[Labels, tuple[int, float]] = {}
        first = ""
        for point in points:
            problem = self.problem(point, pending)
            if not problem:
                good.append(point)
                pending[point.labels] = (point.time_ms, point.value)
            elif rolls_back:
                return 0, problem
            first = first or problem
        self.add(good)
        return len(good), first


class RemoteWriteServer(LoopbackServer):
    """A receiver of remote write.

    ``script`` answers the first requests without a look at them, in order. ``bytes_max``: larger
    ones, decompressed, are answered 413. ``is_portal`` answers every request with a page of HTML,
    ``hangs`` none.
    """

    def __init__(
        self,
        receiver: Receiver = "prometheus",
        *,
        refuses: Refuses = never,
        bytes_max: int | None = None,
        path: str = "/api/v1/write",
    ) -> None:
        super().__init__(path=path)
        self.receiver = receiver
        self.storage = Storage(refuses)
        self.bytes_max = bytes_max
        self.script: list[Reply] = []
        self.is_portal = False
        self.hangs = False
        self.received: list[Written] = []
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where samples go."""
        return f"{self.origin}{self._path}"

    @property
    def values(self) -> list[float]:
        """The values of all that was stored, a series after the other."""
        return [value for samples in self.storage.series.values() for _, value in samples]

    async def wait_until(self, done: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
        """Wait until a condition holds, looked at after each answer."""
        async with patience(timeout_s), self._changed:
            await self._changed.wait_for(done)

    async def handle(self, request: web.Request) -> web.Response:
        """Record a request and answer it."""
        headers = dict(request.headers)
        assert headers["Content-Encoding"] == "snappy"
        body = bytes(cramjam.snappy.decompress_raw(await request.read()))
        is_v2 = headers["Content-Type"] == VERSION_2
        assert is_v2 or headers["Content-Type"] == "application/x-protobuf"
        expected = "2.0.0" if is_v2 else "0.1.0"
        assert headers["X-Prometheus-Remote-Write-Version"] == expected
        written = Written(headers, body, tuple(points_of_v2(body) if is_v2 else points_of(body)))
        if self.hangs:
            await asyncio.Event().wait()
        reply = self._answer(written, is_v2)
        self.received.append(Written(headers, body, written.points, reply.status))
        async with self._changed:
            self._changed.notify_all()
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    def _answer(self, request: Written, is_v2: bool) -> Reply:
        if self.script:
            return self.script.pop(0)
        if self.is_portal:
            return Reply(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        if self.bytes_max is not None and len(request.body) > self.bytes_max:
            return Reply(413, b"request is too large")
        if self.receiver == "victoriametrics":
            if not is_v2:
                self.storage.add(list(request.points))
            return Reply(204)
        if is_v2 and self.receiver == "mimir":
            return Reply(415, b"unsupported media type")
        rolls_back = self.receiver == "prometheus" and not is_v2
        count, fault = self.storage.write(request.points, rolls_back=rolls_back)
        headers = {}
        if is_v2:
            for what, number in (("Samples", count), ("Histograms", 0), ("Exemplars", 0)):
                headers[f"X-Prometheus-Remote-Write-{what}-Written"] = str(number)
        if not fault:
            return Reply(200 if self.receiver == "mimir" else 204, b"", headers)
        return Reply(400, self._text(fault, is_v2).encode(), headers)

    def _text(self, fault: str, is_v2: bool) -> str:
        if self.receiver == "mimir":
            code = fault.replace(" ", "-")
            return (
                f"failed pushing to ingester: user=anonymous: the sample was rejected: {fault} "
                f"(err-mimir-{code}). The affected sample is from series up (sampled 1/10)"
            )
        return f'{fault} for series {{__name__="up"}}\n' if is_v2 else f"{fault}\n"


def points_of(body: bytes) -> Iterator[Point]:
    """The samples of a request of 1.0, in order."""
    for series in WriteRequest.FromString(body).timeseries:
        labels = tuple((one.name, one.value) for one in series.labels)
        for sample in series.samples:
            yield Point(labels, sample.timestamp, sample.value)


def points_of_v2(body: bytes) -> Iterator[Point]:
    """The samples of a request of 2.0, in order."""
    message: Any = RequestV2.FromString(body)
    for series in message.timeseries:
        refs = iter(series.labels_refs)
        labels = tuple(
            (message.symbols[name], message.symbols[value])
            for name, value in zip(refs, refs, strict=True)
        )
        for sample in series.samples:
            yield Point(labels, sample.timestamp, sample.value)
