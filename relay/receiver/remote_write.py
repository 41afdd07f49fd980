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
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDictProxy

from relay.codec import official_classes
from relay.codec.compression import (
    SenderEncoding,
    compress,
    decompress_as_said,
    fits,
)
from relay.codec.signal_names import SignalName
from relay.config.settings.settings import Ingest, ListenAddress
from relay.pipeline.contract import IngestHandler, IngestRequest, IngestResult
from relay.pipeline.metrics.otlp.decoder import OTLP_METRICS
from relay.receiver.authentication import Authenticator
from relay.receiver.counters import IngestCounters, RefusalLog
from relay.receiver.http.listener import Listener, UsualService
from relay.receiver.http.tls import server_context
from relay.receiver.http.usual_head import UsualHead
from relay.receiver.http.whole_answer import SERVER_HEADER, WholeAnswer
from relay.receiver.ingest_head import IngestHead, UsualFacts, decoder_of, head_of, usual_facts
from relay.receiver.otlp.answers import ALL_TAKEN, otlp_answer
from relay.receiver.otlp.target import OtlpTarget, answer_type_of, otlp_target
from relay.receiver.request_target import message_of, tenant_of
from relay.receiver.responses import (
    INCOMPLETE,
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

INLINE_GZIP_BYTES_MAX = 256 * 1024
"""Largest compressed body of gzip likewise: blocks and members of next to nothing take 20 ms."""

JSON_AT_ONCE = 2
"""JSON bodies that are converted at once: more would only take the interpreter from each other."""

_KEPT_ENCODING: Final = "zstd"
"""Encoding in which requests are kept that came as JSON."""

_log = logging.getLogger("relay.receiver")


class _Body:
    """Received part of a body."""

    __slots__ = ("chunks", "size")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0


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
        self._senders: dict[str, int] = {}
        """Requests in progress, by address; only those above 0."""
        self._json_slots = asyncio.Semaphore(JSON_AT_ONCE)
        self._loading = asyncio.Lock()
        self._clock = clock
        self._authenticator = Authenticator(settings.authentication)
        self._counters = IngestCounters()
        self._refusals = RefusalLog(_log)
        self._stopping = False
        self._no_content = WholeAnswer(NO_CONTENT.status, SERVER_HEADER)
        self._all_taken = WholeAnswer(ALL_TAKEN.status, {**SERVER_HEADER, **ALL_TAKEN.headers})
        self._idle: asyncio.Event | None = None
        """While stopping: set once no request is in progress."""
        self._listener = Listener(
            # One handler for every path and method, so that every response is decided and counted
            # here.
            self._handle,
            address,
            setting="listen",
            tls=server_context(settings.tls) if settings.tls else None,
            on_malformed=self._count_malformed,
            usual=UsualService(
                lambda method, _: method == "POST", self.serve_at_once, self._count_cut
            ),
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
        idle = self._idle = asyncio.Event()
        if not self._counters.in_flight:
            idle.set()
        await self._listener.refuse_connections()
        try:
            async with asyncio.timeout(timeout_s):
                await idle.wait()
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
        answer = self._answer(outcome, request.path, headers, request.remote, target, began)
        if answer is NO_CONTENT:
            return self._no_content
        if answer is ALL_TAKEN:
            return self._all_taken
        return _whole(answer)

    def serve_at_once(self, head: UsualHead, raw: bytes, remote: str) -> WholeAnswer | None:
        """Serve a usual request without waiting, as :meth:`_handle` does.

        Return None, with nothing changed or counted, where it has to wait or is to be refused
        before its body is looked at.
        """
        handler, counters, settings = self._handler, self._counters, self._settings
        facts: UsualFacts | None = head.facts
        if facts is None:
            facts = head.facts = usual_facts(head.path, head.headers, self._authenticator)
        if facts is None or self._stopping or handler is None or not handler.is_free:
            return None
        size = len(raw)
        if (
            self._crowd(remote)
            or size > settings.body_bytes_max
            or size + self._bodies_bytes > self._bodies_bytes_max
        ):
            return None
        began = time.perf_counter()
        decoded_bytes = 0
        outcome: Outcome | None
        try:
            body = self._decoded_inline(raw, facts.head)
            if body is None:
                return None
            decoded_bytes = len(body)
            tenant, encoding, protocol, _ = facts.head
            outcome = handler.accept_at_once(
                IngestRequest(tenant, self._clock(), body, raw, encoding, protocol)
            )
            if outcome is None:
                return None
            del body
        except Exception as error:
            outcome = self._refusal_of(error)
        counters.compressed_bytes += size
        counters.decoded_bytes += decoded_bytes
        if facts.all_taken is None or not isinstance(outcome, IngestResult) or outcome.dropped:
            target = facts.target
            return _whole(self._answer(outcome, head.path, head.headers, remote, target, began))
        counters.count(facts.all_taken)
        counters.durations.observe(time.perf_counter() - began)
        return self._no_content if facts.target is None else self._all_taken

    def _answer(
        self,
        outcome: Outcome,
        path: str,
        headers: CIMultiDictProxy[str],
        remote: str | None,
        target: OtlpTarget | None,
        began: float,
    ) -> Answer:
        """Return the answer for an outcome, counted and, where it is a refusal, logged."""
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
                sender=remote or "",
                agent=headers.get("User-Agent", ""),
                path=path,
                now=began,
            )
        self._counters.durations.observe(time.perf_counter() - began)
        return answer

    async def _outcome(self, request: web.BaseRequest, target: OtlpTarget | None) -> Outcome:
        """Return the outcome of a request, errors included."""
        try:
            admitted = self._admit(request, target)
            if isinstance(admitted, VersionProbe):
                return admitted
            return await self._serve(request, admitted)
        except Exception as error:
            return self._refusal_of(error)

    def _refusal_of(self, error: Exception) -> Rejection:
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
        head = head_of(request.headers, tenant, target)
        if (request.content_length or 0) > self._settings.body_bytes_max:
            raise self._too_large()
        if self._stopping:
            text = "shutting down"
            raise RefusedError(
                Rejection(Reason.STOPPING, text, retry_after_s=STOPPING_RETRY_AFTER_S)
            )
        crowd = self._crowd(request.remote or "")
        if crowd:
            raise RefusedError(Rejection(Reason.CONCURRENCY, crowd))
        return head

    def _crowd(self, remote: str) -> str:
        """Say why an address gets no concurrency slot; "" if it gets one."""
        free = self._settings.concurrent_requests_max - self._counters.in_flight
        if free <= 0:
            return "too many requests at once"
        if self._senders.get(remote, 0) >= PER_SENDER_CONCURRENCY_RATIO * free:
            return "too many requests at once from this address"
        return ""

    async def _serve(self, request: web.BaseRequest, admitted: IngestHead) -> IngestResult:
        """Read a body and process it, in one of the concurrency slots. Raise RelayError."""
        sender = request.remote or ""
        self._counters.in_flight += 1
        self._senders[sender] = self._senders.get(sender, 0) + 1
        body = _Body()
        try:
            await self._read(request, body)
            raw = b"".join(body.chunks)
            body.chunks.clear()  # one copy is enough from now on
            return await self._take(raw, admitted)
        finally:
            self._bodies_bytes -= body.size
            self._counters.in_flight -= 1
            left = self._senders[sender] - 1
            if left:
                self._senders[sender] = left
            else:
                del self._senders[sender]
            if self._idle is not None and not self._counters.in_flight:
                self._idle.set()

    async def _read(self, request: web.BaseRequest, body: _Body) -> None:
        """Read the whole body, within the limits and the time. Raise RefusedError."""
        content = request.content
        try:
            if content.is_eof():  # the body came with the head: do not wait
                self._hold(content.read_nowait(), body)
            else:
                # aiohttp's request: it is loaded by now.
                from relay.receiver.http.arriving_body import read_pieces

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
        if raw and admitted.protocol == OTLP_METRICS and not official_classes.are_loaded():
            async with self._loading:
                if not official_classes.are_loaded():
                    await run_in_thread(official_classes.load)
        if admitted.json_signal is not None:
            body, raw = await self._as_protobuf(raw, admitted.encoding, admitted.json_signal)
            return await self._handler.accept(
                IngestRequest(
                    admitted.tenant, self._clock(), body, raw, _KEPT_ENCODING, admitted.protocol
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
        body = self._decoded_inline(raw, admitted)
        if body is None:
            encoding, bytes_max = admitted.encoding, self._settings.decoded_bytes_max
            decode = decoder_of(admitted.protocol)
            body = await run_in_thread(partial(decode, raw, encoding, bytes_max=bytes_max))
        self._counters.decoded_bytes += len(body)
        return body

    def _decoded_inline(self, raw: bytes, admitted: IngestHead) -> bytes | None:
        """Decompress a body; None if it is so large that a thread is to do it. Raise RelayError."""
        bytes_max = self._settings.decoded_bytes_max
        small = min(INLINE_BYTES_MAX, bytes_max)
        encoding = admitted.encoding
        # A snappy block tells its size before anything is decoded.
        if encoding != "snappy" and not fits(raw, small, encoding):
            return None
        if encoding == "gzip" and len(raw) > INLINE_GZIP_BYTES_MAX:
            return None
        try:
            return decoder_of(admitted.protocol)(raw, encoding, bytes_max=small)
        except TooLargeError:
            if small == bytes_max:
                raise
            return None  # or gzip, which tells the size of its last member only, and may lie

    async def _as_protobuf(
        self, raw: bytes, encoding: SenderEncoding, signal: SignalName
    ) -> tuple[bytes, bytes]:
        """Return a JSON body as protobuf, converted in a thread, and compressed. Raise WireError.

        A number of two bytes may become one of eight, so that both may take long.
        """

        def convert() -> tuple[bytes, bytes]:
            # The official classes of all requests, for senders of JSON alone.
            from relay.codec.otlp.json_request import JSON_BYTES_MAX, protobuf_of

            bytes_max = min(self._settings.decoded_bytes_max, JSON_BYTES_MAX)
            try:
                text = decompress_as_said(raw, encoding, bytes_max=bytes_max)
            except TooLargeError as error:
                if bytes_max == self._settings.decoded_bytes_max:
                    raise  # protobuf has the same limit
                raise TooLargeError(f"{error}, which is that of JSON; send protobuf") from error
            body = protobuf_of(text, signal)
            return body, compress(body, _KEPT_ENCODING)

        async with self._json_slots:
            body, kept = await run_in_thread(convert)
        self._counters.decoded_bytes += len(body)
        return body, kept

    def _too_large(self) -> RefusedError:
        text = f"the body is larger than {self._settings.body_bytes_max} bytes"
        return RefusedError(Rejection(Reason.BODY_TOO_LARGE, text))

    def _count_cut(self, head: UsualHead, remote: str) -> None:
        """Count a usual request whose connection ended before its body was there."""
        began = time.perf_counter()
        outcome = Rejection(Reason.INCOMPLETE_BODY, INCOMPLETE)
        self._answer(outcome, head.path, head.headers, remote, otlp_target(head.path), began)

    def _count_malformed(self) -> None:
        """Count a response that aiohttp sent to malformed HTTP."""
        self._counters.count(Answer(400, refused=Reason.MALFORMED_HTTP))

    def __repr__(self) -> str:
        return f"<IngestServer {self._listener!r} {self._counters!r}>"


def _whole(answer: Answer) -> WholeAnswer:
    fields = {**SERVER_HEADER, **answer.headers}
    if answer.body is None and answer.text:
        return WholeAnswer.of_text(answer.status, answer.text, fields)
    return WholeAnswer(answer.status, fields, answer.body or b"")


def _is_probe(request: web.BaseRequest) -> bool:
    return "get_vm_proto_version" in request.query and not request.can_read_body
