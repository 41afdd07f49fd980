"""Everything that a sink decides, without doing any of it.

The shell (:mod:`relay.sink.worker`) asks :meth:`Delivery.next_step` what a lane shall do, does it,
and reports how it went to :meth:`Delivery.settle`. Rules:

* Every point that was offered is counted once, in the ledger, when its payload is finished; at that
  moment, and only then, the payload's hold on its ingest position is released. A payload that is
  cut into n pieces takes n - 1 holds more.
* A lane sends its payloads in order: the head is tried again before the next is taken.
* Refused credentials pause the whole sink, other failures only the lane. A pause counts no
  attempts: only age ends it (design: "try again within maxAge").
* The smallest size that was answered 413 is remembered for :data:`TOO_LARGE_MEMORY_S`, and payloads
  of that size are cut before they are sent. It is forgotten when a payload that cannot be cut is
  refused too: then size was not the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.exporter.model import Sink
from relay.sink.health import Health, Note
from relay.sink.ledger import SinkLedger
from relay.sink.outcome import Delivered, Rejected, Retry, Split, Unauthorized, Verdict
from relay.sink.payload import (
    PROTOCOL_REQUEST_BYTES_MAX,
    Payload,
    cut_below,
    halve,
    make_payloads,
)
from relay.sink.queue import SinkQueue
from relay.sink.retry import (
    RETRY_AFTER_S_MAX,
    Expire,
    GiveUp,
    Randomness,
    TryAgain,
    decide,
    next_delay_s,
)
from relay.wire.batch import SealedBatch

TOO_LARGE_MEMORY_S = 3600.0
"""An endpoint's limit may be raised, or the 413 have been a proxy's bad hour."""


QUEUE_PAYLOADS_MIN = 4
"""A full queue holds at least so many payloads: requests are cut smaller for a tiny queue."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks, in s: ``wall`` for ages and dates, ``monotonic`` for waiting."""

    wall: float
    monotonic: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send this payload, then settle it."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing to do for ``delay_s``, or until something is offered (None)."""

    delay_s: float | None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something an endpoint said or did, for status; ``at`` is wall clock, s."""

    text: str
    at: float


class Delivery:
    """One sink's queue, ledger and state; see the module's rules."""

    def __init__(
        self,
        config: Sink,
        *,
        rng: Randomness,
        release: Callable[[int], None],
        hold: Callable[[int], None],
        say: Callable[[Note], None],
    ) -> None:
        self._config = config
        self._rng = rng
        self._release = release
        self._hold = hold
        self._say = say
        self._closed = False
        self._lane_resumes_at = [0.0] * config.otlp.concurrency
        self._pause_until = 0.0
        self._pauses = 0
        self._too_large_at = 0.0
        self.queue = SinkQueue(config.queue, lanes=config.otlp.concurrency)
        self.ledger = SinkLedger()
        self.health = Health()
        self.paused = ""
        self.too_large_bytes: int | None = None
        self.splits = 0
        self.last_success_at: float | None = None
        self.last_error: Remark | None = None
        self.last_warning: Remark | None = None

    def offer(self, sealed: SealedBatch, lane: int, now: Moment) -> None:
        """Take over a batch and its hold on its position."""
        self.ledger.offer(sealed.count)
        otlp = self._config.otlp
        payloads = make_payloads(
            sealed,
            lane=lane,
            encoding=otlp.compression,
            bytes_max=min(
                otlp.request_bytes_max or PROTOCOL_REQUEST_BYTES_MAX,
                PROTOCOL_REQUEST_BYTES_MAX,
                # A payload that fills the queue alone would leave no choice but to drop it.
                self._config.queue.bytes_max // QUEUE_PAYLOADS_MIN,
            ),
        )
        self._hold_pieces(payloads)
        self._expire(now)
        for payload in payloads:
            if self._closed:
                self._drop(payload, "shutdown", now)
                continue
            for dropped in self.queue.push(payload):
                self._drop(dropped, "queue_full", now)

    def next_step(self, lane: int, now: Moment) -> Send | Sleep:
        """What the lane shall do now. A payload to send is in flight until it is settled."""
        self._expire(now)
        expires_at = self.queue.expires_at(lane)
        if expires_at is None:
            return Sleep(None)
        delay_s = max(self._lane_resumes_at[lane], self._pause_until) - now.monotonic
        if delay_s > 0:
            return Sleep(min(delay_s, expires_at - now.wall))
        payload = self.queue.take(lane)
        assert payload is not None, "a lane with an expiry has a head"
        bytes_max = self._bytes_below_too_large(now)
        if bytes_max is not None and payload.encoded_bytes > bytes_max:
            pieces = cut_below(payload, bytes_max)
            if len(pieces) > 1:
                self._replace(payload, pieces)
                payload = self.queue.take(lane)
                assert payload is not None, "the pieces are in the lane"
        return Send(payload)

    def settle(self, payload: Payload, verdict: Verdict, now: Moment) -> None:
        """Account for an attempt's verdict."""
        if not isinstance(verdict, Unauthorized):
            self._resume()
        match verdict:
            case Delivered():
                self._settle_delivered(payload, verdict, now)
            case Retry():
                self._settle_retry(payload, verdict, now)
            case Rejected():
                self._settle_rejected(payload, verdict, now)
            case Split():
                self._settle_split(payload, verdict, now)
            case Unauthorized():
                self.queue.give_back(payload)
                self._pause(verdict.message, now)

    def give_back(self, payload: Payload) -> None:
        """Return a payload whose attempt was cancelled, if it is not settled."""
        if self.queue.is_in_flight(payload):
            self.queue.give_back(payload)

    def close(self, now: Moment) -> None:
        """Drop what waits, and whatever is offered from now on."""
        self._closed = True
        for payload in self.queue.clear():
            self._drop(payload, "shutdown", now)

    def _settle_delivered(self, payload: Payload, verdict: Delivered, now: Moment) -> None:
        # A count beyond what was sent is nonsense, and must not unbalance the ledger.
        rejected = min(verdict.rejected, payload.points)
        self._finish(payload)
        self.ledger.deliver(payload.points - rejected)
        self._lane_resumes_at[payload.lane] = 0.0
        self.last_success_at = now.wall
        if not rejected:
            if verdict.message:
                self.last_warning = Remark(verdict.message, now.wall)
            self._note(self.health.delivered(now.monotonic))
            return
        self.ledger.reject(rejected, "partial_success")
        why = f"partial success, {rejected} of {payload.points} points rejected: {verdict.message}"
        self.last_error = Remark(why, now.wall)
        self._note(self.health.delivered_in_part(why, now.monotonic))

    def _settle_retry(self, payload: Payload, verdict: Retry, now: Moment) -> None:
        self.last_error = Remark(verdict.message, now.wall)
        payload.attempts += 1
        decision = decide(
            self._config.retry,
            attempts=payload.attempts,
            age_left_s=payload.created_at + self._config.queue.age_max_s - now.wall,
            rng=self._rng,
            retry_after_s=verdict.after_s,
        )
        # Whatever becomes of this payload: the endpoint's own wish holds for the next one, too.
        delay_s = min(verdict.after_s or 0.0, RETRY_AFTER_S_MAX)
        match decision:
            case TryAgain():
                delay_s = decision.delay_s
                self.queue.give_back(payload)
                self._note(self.health.failed(verdict.message, now.monotonic))
            case GiveUp():
                self._finish(payload)
                self.ledger.drop(payload.points, decision.reason)
                why = f"{decision.reason}: {verdict.message}"
                self._note(self.health.rejected(why, now.monotonic))
            case Expire():
                self._finish(payload)
                self.ledger.expire(payload.points)
                self._note(self.health.rejected(f"expired: {verdict.message}", now.monotonic))
        self._lane_resumes_at[payload.lane] = now.monotonic + delay_s

    def _settle_rejected(self, payload: Payload, verdict: Rejected, now: Moment) -> None:
        self._finish(payload)
        self.ledger.reject(payload.points, verdict.reason)
        self.last_error = Remark(verdict.message, now.wall)
        self._note(self.health.rejected(verdict.message, now.monotonic))

    def _settle_split(self, payload: Payload, verdict: Split, now: Moment) -> None:
        halves = halve(payload)
        if not halves:
            self.too_large_bytes = None
            self._settle_rejected(payload, Rejected("too_large", verdict.message), now)
            return
        known = self._bytes_below_too_large(now)
        if known is None or payload.encoded_bytes <= known:
            self.too_large_bytes = payload.encoded_bytes
            self._too_large_at = now.monotonic
        self.last_warning = Remark(f"split: {verdict.message}", now.wall)
        self._replace(payload, halves)

    def _bytes_below_too_large(self, now: Moment) -> int | None:
        if self.too_large_bytes is None:
            return None
        if now.monotonic - self._too_large_at >= TOO_LARGE_MEMORY_S:
            self.too_large_bytes = None
            return None
        return self.too_large_bytes - 1

    def _replace(self, payload: Payload, pieces: list[Payload]) -> None:
        self._hold_pieces(pieces)
        self.queue.replace(payload, pieces)
        self.splits += 1

    def _hold_pieces(self, pieces: list[Payload]) -> None:
        for piece in pieces[1:]:
            self._hold(piece.position)

    def _pause(self, why: str, now: Moment) -> None:
        self.paused = why
        self.last_error = Remark(why, now.wall)
        self._note(self.health.paused(why, now.monotonic))
        if now.monotonic < self._pause_until:
            return  # another lane's request was under way when the sink paused
        self._pauses += 1
        self._pause_until = now.monotonic + next_delay_s(
            self._pauses, backoff_s=self._config.retry.backoff_s, rng=self._rng
        )

    def _resume(self) -> None:
        self.paused = ""
        self._pauses = 0
        self._pause_until = 0.0

    def _expire(self, now: Moment) -> None:
        for payload in self.queue.expire(now.wall):
            self._release(payload.position)
            self.ledger.expire(payload.points)
            self._note(self.health.lost("expired", now.monotonic))

    def _drop(self, payload: Payload, reason: str, now: Moment) -> None:
        """Count a payload that is out of the queue already."""
        self._release(payload.position)
        self.ledger.drop(payload.points, reason)
        self._note(self.health.lost(reason, now.monotonic))

    def _finish(self, payload: Payload) -> None:
        self.queue.finish(payload)
        self._release(payload.position)

    def _note(self, note: Note | None) -> None:
        if note is not None:
            self._say(note)

    def __repr__(self) -> str:
        return f"<Delivery {self._config.name} {self.health.state} {self.queue!r}>"
