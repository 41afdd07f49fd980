"""Send one synthetic point to one sink with its own transport, and tell each step.

* The transport, the credentials, the encoder, the client and the verdict are the sink's own code;
  the transport is a new one, so that no cached name and no open connection hides a step.
* Nothing of the running sink is touched: no queue, no ledger, no circuit breaker.
* Credentials are removed from every text that comes from the endpoint.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from typing import Final

from relay.config.exporter.types import Exporter, Sink
from relay.config.settings.proxy import Proxy
from relay.control.sink_test.point import synthetic_request
from relay.control.sink_test.verdict import (
    StepName,
    TestStep,
    TestVerdict,
    answer_verdict,
    failed_step,
    failure_verdict,
)
from relay.runtime.errors import SecretError
from relay.runtime.event_loop import run_in_thread
from relay.sink.http.client import Transport
from relay.sink.http.connector import ConnectStep
from relay.sink.http.credentials import SecretLookup, credential_headers, redact
from relay.sink.http.interface import HttpRequest
from relay.sink.http.response import HttpFailure, HttpResponse, status_line
from relay.sink.http.tls import TlsMaterial, read_material
from relay.sink.http_endpoint import secret_headers
from relay.sink.interface import ClientDependencies
from relay.sink.kinds import kind_of
from relay.sink.retry.verdict import Verdict, printable

TestEvent = TestStep | TestVerdict

TEXT_TYPES: Final = ("text/", "application/json", "application/problem+json")
"""Content types of bodies that are shown."""
BODY_CHARS_MAX: Final = 400
"""Characters of a body that are looked at for its excerpt."""


@dataclass(frozen=True, slots=True)
class TestNetwork:
    """The operator's rules for connections to endpoints."""

    __test__ = False

    allow_private: bool
    proxy: Proxy | None = None


class _Steps:
    """Collects the steps of a connection as they are done."""

    def __init__(self, tick: Callable[[], float]) -> None:
        self._tick = tick
        self._last = tick()
        self.done: set[str] = set()
        self.queue: asyncio.Queue[TestStep | None] = asyncio.Queue()

    def note(self, name: ConnectStep) -> None:
        """Note a step that is done; of several addresses the last one counts."""
        if name not in self.done or name in ("connection", "tls"):
            self.end(name, ok=True)

    def end(self, name: StepName, *, ok: bool, message: str = "") -> None:
        """Note a step with its duration since the last one."""
        now = self._tick()
        self.done.add(name)
        self.queue.put_nowait(TestStep(name, ok, now - self._last, message))
        self._last = now


class _Recorder:
    """Implements :class:`relay.sink.http.interface.HttpClient`; keeps the one answer."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.answer: HttpResponse | HttpFailure | None = None

    def context(self, material: TlsMaterial) -> SSLContext:
        return self._transport.context(material)

    async def post(self, request: HttpRequest) -> HttpResponse | HttpFailure:
        self.answer = await self._transport.post(request)
        return self.answer

    async def close(self) -> None:
        await self._transport.close()


async def try_sink(
    exporter: Exporter,
    sink: Sink,
    secrets: SecretLookup,
    network: TestNetwork,
    *,
    clock: Callable[[], float] = time.time,
    tick: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[TestEvent, None]:
    """Yield each step of a test when it has ended, then the verdict. Never raises for the endpoint.

    Takes at most the sink's timeout, beside reading its secrets.
    """
    began, steps = tick(), _Steps(tick)
    recorder = _Recorder(
        Transport(allow_private=network.allow_private, proxy=network.proxy, trace=steps.note)
    )
    try:
        try:
            credentials = credential_headers(sink.endpoint.authentication, secrets)
            hidden = secret_headers(sink.endpoint, credentials)
            request = synthetic_request(exporter.id, sink, clock())
            # Held until the end: the client finds it. Its authorities take 20 ms to read.
            context = await _tls_context(recorder, sink, secrets)
        except SecretError as error:
            yield TestStep("credentials", False, tick() - began, str(error))
            yield failure_verdict("credentials", str(error), tick() - began)
            return
        steps.end("credentials", ok=True, message=_described(sink))
        dependencies = ClientDependencies(recorder, secrets, clock)
        client = kind_of(sink.endpoint).make_client(sink.endpoint, dependencies)
        task = asyncio.create_task(client.send(request))
        task.add_done_callback(lambda _: steps.queue.put_nowait(None))
        try:
            while (step := await steps.queue.get()) is not None:
                yield step
        finally:
            task.cancel()
        for event in _ended(task, recorder.answer, sink, steps, hidden, tick() - began):
            yield event
        del context
    finally:
        await recorder.close()


async def _tls_context(recorder: _Recorder, sink: Sink, secrets: SecretLookup) -> SSLContext | None:
    """Return the context of an HTTPS endpoint, made in a thread. Raises SecretError."""
    endpoint = sink.endpoint
    if not endpoint.url.lower().startswith("https:"):
        return None
    material = read_material(endpoint.tls, secrets) if endpoint.tls else TlsMaterial()
    return await run_in_thread(partial(recorder.context, material))


def _ended(
    task: asyncio.Task[Verdict],
    answer: HttpResponse | HttpFailure | None,
    sink: Sink,
    steps: _Steps,
    hidden: Mapping[str, str],
    seconds: float,
) -> list[TestEvent]:
    """Return the last steps and the verdict."""
    error = task.exception()
    if isinstance(error, SecretError):
        steps.end("credentials", ok=False, message=str(error))
        return [_last(steps), failure_verdict("credentials", str(error), seconds)]
    if isinstance(error, ValueError):
        # A header that cannot be sent; the text of the error may hold its value.
        message = "a header of the sink cannot be sent: it holds a character that HTTP forbids"
        steps.end("credentials", ok=False, message=message)
        return [_last(steps), failure_verdict("credentials", message, seconds)]
    if error is not None:
        raise error
    assert answer is not None, "a client without an error has an answer"
    if isinstance(answer, HttpFailure):
        has_tls = sink.endpoint.url.lower().startswith("https:")
        name = failed_step(answer, frozenset(steps.done), has_tls=has_tls)
        message = redact(answer.message, hidden)
        steps.end(name, ok=False, message=message)
        return [_last(steps), failure_verdict(name, message, seconds)]
    verdict = answer_verdict(answer.status, task.result(), seconds)
    is_2xx = 200 <= answer.status < 300
    steps.end("answer", ok=is_2xx, message=status_line(answer.status))
    first = _last(steps)
    # Where the status tells it all, the body is not what is wrong.
    steps.end("body", ok=verdict.ok or not is_2xx, message=redact(_excerpt(answer), hidden))
    return [first, _last(steps), verdict]


def _last(steps: _Steps) -> TestStep:
    step = steps.queue.get_nowait()
    assert step is not None, "the end was taken already"
    return step


def _described(sink: Sink) -> str:
    authentication = sink.endpoint.authentication
    if authentication.secret is None:
        return "none are needed"
    return f"{authentication.type} from Secret {authentication.secret.name}"


def _excerpt(answer: HttpResponse) -> str:
    """Return the beginning of a body that is text, its size otherwise."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not answer.body:
        return "empty"
    if kind.startswith(TEXT_TYPES):
        return printable(answer.body[:BODY_CHARS_MAX].decode(errors="replace"))
    return f"{len(answer.body)} bytes of {printable(kind) or 'no content type'}"
