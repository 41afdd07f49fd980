"""Serve remote write and OTLP: check and read each request, pass its body on, respond.

Checks that do not need the body come first; their order is part of the interface:

1. path, method: 404, 405; an invalid tenant: 400
2. credentials: 401
3. vmagent's version probe, of remote write: 200
4. content type and encoding: 415
5. declared size: 413
6. stopping, or too many concurrent requests, in all or of this sender: 503
7. the body, within its time, its limit and that of all bodies together: 503, 413
8. decompression within its limit, then :class:`~relay.pipeline.contract.IngestHandler`: 400, 503

:mod:`relay.receiver.responses` maps outcomes to responses, :mod:`relay.receiver.otlp.answers` those
of OTLP. Every request and every malformed one
is counted exactly once; :mod:`relay.receiver.counters` logs refusals at a bounded rate.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from relay.codec.compression import (
    SenderEncoding,
    compress,
    decompress,
    decompress_as_said,
    fits,
)
from relay.codec.otlp.signal_names import SignalName
from relay.codec.remote_write.v1 import WriteProtocol
from relay.config.settings.settings import Ingest, ListenAddress
from relay.pipeline.contract import IngestHandler, IngestRequest, IngestResult, Tenant
from relay.pipeline.signals import OTLP_PROTOCOLS
from relay.receiver.authentication import Authenticator
from relay.receiver.counters import IngestCounters, RefusalLog
from relay.receiver.http.listener import SERVER_HEADER, Listener
from relay.receiver.http.tls import server_context
from relay.receiver.http.whole_answer import WholeAnswer
from relay.receiver.otlp.answers import ALL_TAKEN, otlp_answer
from relay.receiver.otlp.target import (
    JSON,
    OtlpTarget,
    answer_type_of,
    media_type_of,
    otlp_target,
)
from relay.receiver.otlp.target import encoding_of as otlp_encoding_of
from relay.receiver.request_target import encoding_of, message_of, protocol_of, tenant_of
from relay.receiver.responses import (
    NO_CONTENT,
    Answer,
    Outcome,
    Reason,
    RefusedError,
    Rejection,
    VersionProbe,
    answer_to,
    refusal_of,
    sender_of,
)
from relay.runtime.errors import TooLargeError
from relay.runtime.event_loop import run_in_thread
from relay.telemetry.registry import IngestFigures

if TYPE_CHECKING:
    from aiohttp import web

STOPPING_RETRY_AFTER_S = 5
"""Retry-After while stopping; s. A restart takes a few seconds."""

PER_SENDER_CONCURRENCY_RATIO = 7
"""A sender may use up to this many times the free concurrency slots: alone 56 of 64, two 29 each.
So a slot is always free for a new sender."""

INLINE_BYTES_MAX = 4 * 1024 * 1024
"""Largest decoded body that is decompressed on the loop, in 2 ms; bytes. Larger ones in a
thread."""

JSON_AT_ONCE = 2
"""JSON bodies that are converted at once: more would only take the interpreter from each other."""

_log = logging.getLogger("relay.receiver")


class IngestHead(NamedTuple):
    """A request's parameters, known before its body is read."""

    tenant: Tenant | None
    encoding: SenderEncoding
    protocol: WriteProtocol
    json_signal: SignalName | None = None
    """Signal of a body in JSON, which becomes protobuf."""


@dataclass(slots=True)
class _Body:
    """Received part of a body."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0


class IngestServer:
    """Receive remote write and hand requests to an IngestHandler.

    Requests are handed over in the order in which their bodies are complete.
    ``bodies_bytes_max`` bounds the compressed bytes of all bodies being read or processed.
    ``clock`` is the wall clock in s. Raise ConfigError for unusable TLS files.
    """

    def __init__(
        self,
        address: ListenAddress,
        settings: Ingest,
        *,
        bodies_bytes_max: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._handler: IngestHandler | None = None
        self._bodies_bytes_max = bodies_bytes_max
        self._bodies_bytes = 0
        self._senders: Counter[str] = Counter()
        self._json_slots = asyncio.Semaphore(JSON_AT_ONCE)
        self._clock = clock
        self._authenticator = Authenticator(settings.authentication)
        self._counters = IngestCounters()
        self._refusals = RefusalLog(_log)
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._no_content = WholeAnswer(NO_CONTENT.status, SERVER_HEADER)
        self._all_taken = WholeAnswer(ALL_TAKEN.status, {**SERVER_HEADER, **ALL_TAKEN.headers})
        self._listener = Listener(
            # One handler for every path and method, so that every response is decided and counted
            # here.
            self._handle,
            address,
            setting="listen",
            tls=server_context(settings.tls) if settings.tls else None,
            on_malformed=self._count_malformed,
            is_usual=lambda method, _: method == "POST",
        )

    async def start(self, handler: IngestHandler) -> None:
        """Listen, and hand requests to ``handler``. Raise ConfigError if the address is taken."""
        self._handler = handler
        await self._listener.start()

    async def stop(self, *, timeout_s: float = 5.0) -> None:
        """Accept no new request, let bodies in transit arrive, close every connection.

        Bodies that do not arrive within ``timeout_s`` are cut off; their senders retry them.
        """
        self._stopping = True
        await self._listener.refuse_connections()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("cut off %d requests that did not arrive", self._counters.in_flight)
        await self._listener.stop()

    @property
    def address(self) -> ListenAddress:
        """The bound address; only after :meth:`start`."""
        return self._listener.address

    def statistics(self) -> IngestFigures:
        """Return a snapshot of the counters."""
        return self._counters.statistics()

    async def _handle(self, request: web.BaseRequest) -> WholeAnswer:
        began = time.perf_counter()
        headers = request.headers
        target = otlp_target(request.path)
        outcome = await self._outcome(request, target)
        if target is not None:
            media_type = answer_type_of(headers.get("Content-Type"))
            answer = otlp_answer(outcome, target.signal, media_type)
        else:
            sender = sender_of(
                user_agent=headers.get("User-Agent", ""),
                vm_version=headers.get("X-VictoriaMetrics-Remote-Write-Version", ""),
            )
            answer = answer_to(outcome, sender, message_of(headers.get("Content-Type")))
        self._counters.count(answer)
        if answer.refused is not None:
            self._refusals.log(
                answer,
                sender=request.remote or "",
                agent=headers.get("User-Agent", ""),
                path=request.path,
                now=began,
            )
        self._counters.durations.observe(time.perf_counter() - began)
        if answer is NO_CONTENT:
            return self._no_content
        if answer is ALL_TAKEN:
            return self._all_taken
        fields = {**SERVER_HEADER, **answer.headers}
        if answer.body is None and answer.text:
            return WholeAnswer.of_text(answer.status, answer.text, fields)
        return WholeAnswer(answer.status, fields, answer.body or b"")

    async def _outcome(self, request: web.BaseRequest, target: OtlpTarget | None) -> Outcome:
        """Return the outcome of a request, errors included."""
        try:
            admitted = self._admit(request, target)
            if isinstance(admitted, VersionProbe):
                return admitted
            return await self._serve(request, admitted)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.reason is Reason.INTERNAL:
                # A bug must neither lose data, which the sender keeps on 503, nor stay unnoticed.
                _log.exception("a request was not taken because of an unexpected error")
            return refusal

    def _admit(
        self, request: web.BaseRequest, target: OtlpTarget | None
    ) -> IngestHead | VersionProbe:
        """Check everything that is known before the body is read. Raise RelayError."""
        tenant = tenant_of(request.path) if target is None else target.tenant
        if request.method != "POST":
            text = f"method {request.method} is not accepted; use POST"
            raise RefusedError(Rejection(Reason.METHOD, text, headers={"Allow": "POST"}))
        if not self._authenticator.allows(request.headers.get("Authorization")):
            challenge = {"WWW-Authenticate": self._authenticator.challenge}
            text = "a valid Authorization header is required"
            raise RefusedError(Rejection(Reason.UNAUTHENTICATED, text, headers=challenge))
        if request.query_string and target is None and _is_probe(request):
            return VersionProbe()
        head = _head_of(request, tenant, target)
        if (request.content_length or 0) > self._settings.body_bytes_max:
            raise self._too_large()
        if self._stopping:
            text = "shutting down"
            raise RefusedError(
                Rejection(Reason.STOPPING, text, retry_after_s=STOPPING_RETRY_AFTER_S)
            )
        free = self._settings.concurrent_requests_max - self._counters.in_flight
        if free <= 0:
            raise RefusedError(Rejection(Reason.CONCURRENCY, "too many requests at once"))
        if self._senders[request.remote or ""] >= PER_SENDER_CONCURRENCY_RATIO * free:
            text = "too many requests at once from this address"
            raise RefusedError(Rejection(Reason.CONCURRENCY, text))
        return head

    async def _serve(self, request: web.BaseRequest, admitted: IngestHead) -> IngestResult:
        """Read a body and process it, in one of the concurrency slots. Raise RelayError."""
        sender = request.remote or ""
        self._counters.in_flight += 1
        self._senders[sender] += 1
        self._idle.clear()
        body = _Body()
        try:
            await self._read(request, body)
            raw = b"".join(body.chunks)
            body.chunks.clear()  # one copy is enough from now on
            return await self._take(raw, admitted)
        finally:
            self._bodies_bytes -= body.size
            self._counters.in_flight -= 1
            self._senders[sender] -= 1
            if not self._senders[sender]:
                del self._senders[sender]
            if not self._counters.in_flight:
                self._idle.set()

    async def _read(self, request: web.BaseRequest, body: _Body) -> None:
        """Read the whole body, within the limits and the time. Raise RefusedError."""
        content = request.content
        try:
            if content.is_eof():  # the body came with the head: do not wait
                self._hold(content.read_nowait(), body)
            else:
                # aiohttp's request: it is loaded by now.
                from relay.receiver.http.arriving_body import read_pieces  # noqa: PLC0415

                async with asyncio.timeout(self._settings.read_timeout_s):
                    await read_pieces(request, lambda chunk: self._hold(chunk, body))
        except TimeoutError as error:
            text = f"the body did not arrive within {self._settings.read_timeout_s:g} s"
            raise RefusedError(Rejection(Reason.READ_TIMEOUT, text)) from error
        self._counters.compressed_bytes += body.size

    def _hold(self, chunk: bytes, body: _Body) -> None:
        """Keep a piece of a body. Raise RefusedError."""
        body.size += len(chunk)
        self._bodies_bytes += len(chunk)
        if body.size > self._settings.body_bytes_max:
            raise self._too_large()
        if self._bodies_bytes > self._bodies_bytes_max:
            raise RefusedError(Rejection(Reason.OVERLOADED, "too many bodies at once"))
        body.chunks.append(chunk)

    async def _take(self, raw: bytes, admitted: IngestHead) -> IngestResult:
        """Decompress a body and hand it on; raises RelayError."""
        assert self._handler is not None
        if admitted.json_signal is not None:
            body = await self._as_protobuf(raw, admitted.encoding, admitted.json_signal)
            encoding: SenderEncoding = "zstd"
            raw = compress(body, encoding)
            return await self._handler.accept(
                IngestRequest(
                    admitted.tenant, self._clock(), body, raw, encoding, admitted.protocol
                )
            )
        # Neither the request nor its body has a name here: the handler decides when it is freed.
        return await self._handler.accept(
            IngestRequest(
                body=await self._decoded(raw, admitted),
                tenant=admitted.tenant,
                received_at=self._clock(),
                raw=raw,
                encoding=admitted.encoding,
                protocol=admitted.protocol,
            )
        )

    async def _decoded(self, raw: bytes, admitted: IngestHead) -> bytes:
        bytes_max = self._settings.decoded_bytes_max
        small = min(INLINE_BYTES_MAX, bytes_max)
        encoding = admitted.encoding
        decode = decompress_as_said if admitted.protocol in OTLP_PROTOCOLS else decompress
        body = None
        if fits(raw, small, encoding):
            try:
                body = decode(raw, encoding, bytes_max=small)
            except TooLargeError:
                if small == bytes_max:
                    raise
                # gzip tells the size of its last member only, and may lie.
        if body is None:
            body = await run_in_thread(partial(decode, raw, encoding, bytes_max=bytes_max))
        self._counters.decoded_bytes += len(body)
        return body

    async def _as_protobuf(self, raw: bytes, encoding: SenderEncoding, signal: SignalName) -> bytes:
        """Return a JSON body as protobuf, converted in a thread. Raise WireError."""

        def convert() -> bytes:
            # The official classes of all requests, for senders of JSON alone.
            from relay.codec.otlp.json_request import JSON_BYTES_MAX, protobuf_of  # noqa: PLC0415

            bytes_max = min(self._settings.decoded_bytes_max, JSON_BYTES_MAX)
            return protobuf_of(decompress_as_said(raw, encoding, bytes_max=bytes_max), signal)

        async with self._json_slots:
            body = await run_in_thread(convert)
        self._counters.decoded_bytes += len(body)
        return body

    def _too_large(self) -> RefusedError:
        text = f"the body is larger than {self._settings.body_bytes_max} bytes"
        return RefusedError(Rejection(Reason.BODY_TOO_LARGE, text))

    def _count_malformed(self) -> None:
        """Count a response that aiohttp sent to malformed HTTP."""
        self._counters.count(Answer(400, refused=Reason.MALFORMED_HTTP))

    def __repr__(self) -> str:
        return f"<IngestServer {self._listener!r} {self._counters!r}>"


def _head_of(
    request: web.BaseRequest, tenant: Tenant | None, target: OtlpTarget | None
) -> IngestHead:
    """Read the headers that say how to read the body. Raise UnsupportedMediaError."""
    content_type = request.headers.get("Content-Type")
    # Repeated header lines equal one line with a list (RFC 9110, 5.3).
    coding = ", ".join(request.headers.getall("Content-Encoding", ()))
    if target is None:
        return IngestHead(tenant, encoding_of(coding), protocol_of(content_type))
    is_json = media_type_of(content_type) == JSON
    encoding = otlp_encoding_of(coding)
    return IngestHead(tenant, encoding, target.protocol, target.signal if is_json else None)


def _is_probe(request: web.BaseRequest) -> bool:
    return "get_vm_proto_version" in request.query and not request.can_read_body
