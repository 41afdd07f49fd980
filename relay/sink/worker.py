"""One sink at work: a thin shell of tasks around :class:`relay.sink.delivery.Delivery`.

Rules:

* One task per lane. Whatever happens to a task, a payload in flight is settled or goes back.
* Bad luck never reaches the caller: :meth:`SinkWorker.offer` is synchronous and always takes the
  batch.
* Credentials and TLS material are read before the first request, and again after the endpoint
  refused them (401, 403) or TLS failed. Every message from outside is cleared of them before it is
  kept.
* A bug in a task is logged with its traceback and counted; the data is kept and the sink goes on.
* Log lines come from :mod:`relay.sink.health` alone: never one per batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from relay.errors import SecretError
from relay.exporter.model import Sink
from relay.sink.auth import SecretLookup, credential_headers, redact
from relay.sink.delivery import Delivery, Moment, Remark, Sleep
from relay.sink.exchange import Failure
from relay.sink.health import Note, State
from relay.sink.ledger import LedgerStatistics
from relay.sink.outcome import Retry, Unauthorized, Verdict, classify, classify_failure
from relay.sink.payload import Payload
from relay.sink.queue import QueueStatistics
from relay.sink.tls import TlsMaterial, read_material
from relay.sink.transport import HttpRequest, Transport
from relay.wire.batch import OpenBatch, SealedBatch

logger = logging.getLogger("relay.sink")

UNBATCHED_POINTS_MAX = 1 << 30
"""Limit of an open batch where batching is off: the app seals at the end of each request
instead."""

SECRET_CHARS_MIN = 12
"""Values of configured headers that are as long are kept out of messages; a tenant's name is
not."""

BUG_PAUSE_S = 1.0
"""How long a lane rests after a bug, lest it fill the log."""


@dataclass(frozen=True, slots=True)
class SinkStatistics:
    """One moment of a sink. Times are wall clock, s; ``paused`` is why, or "".

    ``requests`` counts answers by verdict (``delivered``, ``retry``, ``rejected``, ``split``,
    ``unauthorized``); ``too_large_bytes`` is the remembered size of a 413, uncompressed.
    """

    exporter: str
    sink: str
    state: State
    ledger: LedgerStatistics
    queue: QueueStatistics
    oldest_point_age_s: float | None
    last_success_at: float | None
    last_error: Remark | None
    last_warning: Remark | None
    paused: str
    too_large_bytes: int | None
    splits: int
    requests: Mapping[str, int]
    bytes_sent: int
    internal_errors: int


@dataclass(frozen=True, slots=True)
class _Access:
    """What the sink's secrets came to, until they are refused."""

    credentials: Mapping[str, str] = field(repr=False)
    context: ssl.SSLContext | None


class SinkWorker:
    """One sink of one exporter.

    ``secrets`` looks up the exporter's secrets afresh each time; ``hold`` and ``release`` count
    holders of ingest positions; ``clock`` is wall time and ``tick`` what waits are measured with,
    both in s.
    """

    def __init__(  # noqa: PLR0913 - a composition point: every collaborator is named once, here
        self,
        sink_id: str,
        exporter_id: str,
        config: Sink,
        *,
        transport: Transport,
        secrets: SecretLookup,
        hold: Callable[[int], None],
        release: Callable[[int], None],
        rng: random.Random,
        clock: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sink_id = sink_id
        self.exporter_id = exporter_id
        self.config = config
        self._transport = transport
        self._secrets = secrets
        self._clock = clock
        self._tick = tick
        lanes = range(config.otlp.concurrency)
        limit = config.batch.points_max if config.batch.enabled else UNBATCHED_POINTS_MAX
        timeout_s = config.batch.timeout_s if config.batch.enabled else 0.0
        self.lanes = tuple(
            OpenBatch(self, limit=limit, lane=lane, timeout_s=timeout_s) for lane in lanes
        )
        self._delivery = Delivery(config, rng=rng, release=release, hold=hold, say=self._log)
        self._wakes = tuple(asyncio.Event() for _ in lanes)
        self._emptied = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._access: _Access | None = None
        self._requests: dict[str, int] = {}
        self._bytes_sent = 0
        self._internal_errors = 0

    @property
    def full(self) -> bool:
        """Whether senders must be held back (only with ``overflow: block``)."""
        return self._delivery.queue.full

    def offer(self, sealed: SealedBatch, lane: int) -> None:
        """Take over a batch of one of :attr:`lanes`; its outcome shows in the ledger."""
        self._delivery.offer(sealed, lane, self._now())
        self._wakes[lane].set()

    def reread_secrets(self) -> None:
        """Read credentials and TLS material afresh before the next request."""
        self._access = None

    def start(self) -> None:
        """Begin to send. Needs a running loop."""
        assert not self._tasks, "started twice"
        self._tasks = [
            asyncio.create_task(self._serve(lane), name=f"sink {self!r} lane {lane}")
            for lane in range(len(self.lanes))
        ]

    async def drain(self, timeout_s: float) -> None:
        """Go on sending until nothing is left or the time is over, then :meth:`close`."""
        self._emptied.clear()
        if not self._delivery.queue.empty:
            with contextlib.suppress(TimeoutError):  # what is left then is dropped on record
                async with asyncio.timeout(timeout_s):
                    await self._emptied.wait()
        await self.close()

    async def close(self) -> None:
        """Stop sending at once; whatever is left, or offered from now on, is dropped as "shutdown".

        A request cut off half-way may have arrived: its points count as dropped all the same.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._delivery.close(self._now())

    def statistics(self) -> SinkStatistics:
        """A snapshot; asserts that the ledger balances."""
        delivery = self._delivery
        oldest = delivery.queue.oldest_created_at()
        return SinkStatistics(
            exporter=self.exporter_id,
            sink=self.sink_id,
            state=delivery.health.state,
            ledger=delivery.ledger.statistics(),
            queue=delivery.queue.statistics(),
            oldest_point_age_s=None if oldest is None else max(0.0, self._clock() - oldest),
            last_success_at=delivery.last_success_at,
            last_error=delivery.last_error,
            last_warning=delivery.last_warning,
            paused=delivery.paused,
            too_large_bytes=delivery.too_large_bytes,
            splits=delivery.splits,
            requests=dict(self._requests),
            bytes_sent=self._bytes_sent,
            internal_errors=self._internal_errors,
        )

    def __repr__(self) -> str:
        return f"<SinkWorker {self.exporter_id} {self.sink_id} {self._delivery.health.state}>"

    def _now(self) -> Moment:
        return Moment(self._clock(), self._tick())

    async def _serve(self, lane: int) -> None:
        while True:
            try:
                await self._step(lane)
            except Exception:
                self._internal_errors += 1
                logger.exception("%s: bug in the relay", self._name)
                await asyncio.sleep(BUG_PAUSE_S)

    async def _step(self, lane: int) -> None:
        wake = self._wakes[lane]
        wake.clear()
        step = self._delivery.next_step(lane, self._now())
        if self._delivery.queue.empty:
            self._emptied.set()
        if isinstance(step, Sleep):
            with contextlib.suppress(TimeoutError):  # the end of the delay, not a failure
                async with asyncio.timeout(step.delay_s):
                    await wake.wait()
            return
        try:
            verdict = await self._attempt(step.payload)
            self._delivery.settle(step.payload, verdict, self._now())
        finally:
            self._delivery.give_back(step.payload)

    async def _attempt(self, payload: Payload) -> Verdict:
        try:
            return await self._exchange(payload)
        except SecretError as error:
            return Unauthorized(str(error))
        except Exception:
            self._internal_errors += 1
            logger.exception("%s: bug in the relay, its data is kept", self._name)
            return Retry("internal_error", "internal error of the relay")

    async def _exchange(self, payload: Payload) -> Verdict:
        if self._access is None:
            self._access = self._read_access()
        access = self._access
        self._bytes_sent += len(payload.body)
        answer = await self._transport.post(self._request(payload, access))
        if isinstance(answer, Failure):
            verdict = classify_failure(answer)
            refused = answer.kind == "tls_failed"
        else:
            verdict = classify(answer.status, answer.headers, answer.body, self._clock())
            refused = isinstance(verdict, Unauthorized)
        if refused and self._access is access:
            self._access = None
        result = type(verdict).__name__.lower()
        self._requests[result] = self._requests.get(result, 0) + 1
        return replace(verdict, message=redact(verdict.message, self._secret_headers(access)))

    def _secret_headers(self, access: _Access) -> dict[str, str]:
        """Every header that may hold a credential; customers write them into ``headers``, too."""
        given = {
            name: value
            for name, value in self.config.otlp.headers.items()
            if len(value) >= SECRET_CHARS_MIN
        }
        return {**given, **access.credentials}

    def _read_access(self) -> _Access:
        """Read the sink's secrets. Raises SecretError."""
        otlp = self.config.otlp
        credentials = credential_headers(otlp.authentication, self._secrets)
        if not otlp.url.startswith("https:"):
            return _Access(credentials, None)
        material = read_material(otlp.tls, self._secrets) if otlp.tls else TlsMaterial()
        return _Access(credentials, self._transport.context(material))

    def _request(self, payload: Payload, access: _Access) -> HttpRequest:
        otlp = self.config.otlp
        ours = {"Content-Type": "application/x-protobuf"}
        if payload.encoding != "none":
            ours["Content-Encoding"] = payload.encoding
        # Names differ in case only by accident: the later one replaces the earlier.
        by_name = {
            name.lower(): (name, value)
            for name, value in itertools.chain(
                otlp.headers.items(), access.credentials.items(), ours.items()
            )
        }
        return HttpRequest(
            url=otlp.url,
            headers=dict(by_name.values()),
            body=payload.body,
            timeout_s=otlp.timeout_s,
            tls=access.context,
            server_name=otlp.tls.server_name if otlp.tls else "",
        )

    def _log(self, note: Note) -> None:
        level = logging.INFO if note.good else logging.WARNING
        logger.log(
            level,
            "%s: %s",
            self._name,
            note.text,
            extra={"exporter": self.exporter_id, "sink": self.sink_id},
        )

    @property
    def _name(self) -> str:
        return f"exporter {self.exporter_id}, sink {self.sink_id}"
