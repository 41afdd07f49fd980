"""Sink tests of the running relay: of running sinks, with their secrets, and how often.

* :data:`TESTS_MAX` tests a project in :data:`WINDOW_S`; one at a time to a host and port,
  :data:`UNDER_WAY_MAX` in all, :data:`UNDER_WAY_PER_PROJECT_MAX` of one project, each at most
  :data:`TIMEOUT_S_MAX` long. A test that is refused is not counted.
* :meth:`SinkTestService.open` takes no endpoint from a request: it would carry the exporter's
  secrets there. The caller of :meth:`SinkTestService.open_of` says which secrets may be read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from yarl import URL

from relay.config.exporter.records.outputs import outputs_by_signal, outputs_of
from relay.config.exporter.types import Exporter, Sink
from relay.control.preview.service import require_running
from relay.control.sink_test.trial import TestEvent, TestNetwork, try_sink
from relay.runtime.errors import ConfigError, Fault, OverloadedError
from relay.sink.http.credentials import SecretLookup

TESTS_MAX: Final = 6
"""Tests of one project in a window."""
WINDOW_S: Final = 60.0
UNDER_WAY_MAX: Final = 16
UNDER_WAY_PER_PROJECT_MAX: Final = 4
"""Tests of one project at the same time, with tenancy."""
TIMEOUT_S_MAX: Final = 30.0
"""Longest time for the request of a test and its answer; s. A sink's own may be longer."""


@dataclass(frozen=True, slots=True)
class SinkTestQuery:
    """A test of one sink of a running exporter (its id); ``sink`` "" is the only one it has."""

    exporter: str
    sink: str = ""


class TestLimits:
    """Counts the tests of projects and of hosts; ``tick`` is monotonic, s."""

    __test__ = False

    def __init__(self, tick: Callable[[], float] = time.monotonic) -> None:
        self._tick = tick
        self._begun: dict[str, deque[float]] = {}
        self._hosts: dict[tuple[str, int], str] = {}
        """Projects whose test of a host is under way."""

    def check(self, project: str, host: tuple[str, int]) -> None:
        """Raise OverloadedError where a test may not begin now."""
        now = self._tick()
        for name in [name for name, times in self._begun.items() if now - times[-1] >= WINDOW_S]:
            del self._begun[name]
        times = self._begun.get(project, deque())
        while times and now - times[0] >= WINDOW_S:
            times.popleft()
        if len(times) >= TESTS_MAX:
            wait_s = int(WINDOW_S - (now - times[0])) + 1
            message = f"{TESTS_MAX} tests were made in the last minute; ask again in {wait_s} s"
            raise OverloadedError(message, retry_after_s=wait_s)
        if host in self._hosts:
            raise OverloadedError(f"a test of {host[0]}:{host[1]} is under way")
        if len(self._hosts) >= UNDER_WAY_MAX:
            raise OverloadedError(f"{UNDER_WAY_MAX} tests are under way")
        own = sum(one == project for one in self._hosts.values())
        if project and own >= UNDER_WAY_PER_PROJECT_MAX:
            raise OverloadedError(f"{own} tests of the project are under way")

    def begin(self, project: str, host: tuple[str, int]) -> None:
        """Count a test that begins, until :meth:`end`; raise OverloadedError as :meth:`check`."""
        self.check(project, host)
        self._begun.setdefault(project, deque()).append(self._tick())
        self._hosts[host] = project

    def end(self, host: tuple[str, int]) -> None:
        """Let the next test of a host begin."""
        self._hosts.pop(host, None)

    def __repr__(self) -> str:
        return f"<TestLimits {len(self._hosts)} under way>"


class SinkTestService:
    """Tests sinks of ``running`` exporters; ``secrets`` returns the lookup of an exporter's."""

    def __init__(
        self,
        running: Callable[[], Iterable[Exporter]],
        secrets: Callable[[Exporter], SecretLookup],
        network: TestNetwork,
        limits: TestLimits | None = None,
    ) -> None:
        self._running = running
        self._secrets = secrets
        self._network = network
        self._limits = limits or TestLimits()

    def open(self, query: SinkTestQuery) -> AsyncIterator[TestEvent]:
        """Return the events of a test, to be read to the end or closed.

        Raises ConfigError for a sink that does not run, OverloadedError where it may not begin now.
        """
        exporter = require_running(self._running(), query.exporter)
        return self.open_of(exporter, require_sink(exporter, query.sink), self._secrets(exporter))

    def open_of(
        self, exporter: Exporter, sink: Sink, secrets: SecretLookup
    ) -> AsyncIterator[TestEvent]:
        """Return the events of a test of a sink that need not run, with secrets of its own.

        Raises OverloadedError where it may not begin now.
        """
        endpoint = sink.endpoint
        if endpoint.timeout_s > TIMEOUT_S_MAX:
            sink = replace(sink, endpoint=replace(endpoint, timeout_s=TIMEOUT_S_MAX))
        host = host_of(sink)
        self._limits.check(exporter.project, host)
        return self._events(exporter, sink, host, secrets)

    def secrets_of(self, exporter: Exporter) -> SecretLookup:
        """Return the lookup of the secrets that an exporter has while it runs."""
        return self._secrets(exporter)

    async def _events(
        self, exporter: Exporter, sink: Sink, host: tuple[str, int], secrets: SecretLookup
    ) -> AsyncIterator[TestEvent]:
        # Here and not before: events of which none is asked for are not ended either.
        self._limits.begin(exporter.project, host)
        try:
            trial = try_sink(exporter, sink, secrets, self._network)
            async with aclosing(trial) as events:  # its connection ends before its host is free
                async for event in events:
                    yield event
        finally:
            self._limits.end(host)

    def __repr__(self) -> str:
        return f"<SinkTestService {self._limits!r}>"


def require_sink(exporter: Exporter, wanted: str) -> Sink:
    """Return an output of a sink by its name, or of the only one for ""; raise ConfigError.

    ``<sink>/logs`` is its output of logs. Where no signal is named, it is that of metrics, or the
    first that a sink without metrics has.
    """
    name, _, signal = wanted.partition("/")
    names = [sink.name for sink in exporter.sinks]
    if not name and len(names) == 1:
        name = names[0]
    found = next((sink for sink in exporter.sinks if sink.name == name), None)
    if found is None:
        said = f"there is no sink {name}" if name else "is required"
        choice = ", ".join(names) or "none"
        raise ConfigError([Fault("sink", f"{said}; {exporter.id} has {choice}")])
    outputs = outputs_by_signal(exporter, found)
    if signal and signal not in outputs:
        message = f"{found.name} sends no {signal}; it sends {', '.join(outputs)}"
        raise ConfigError([Fault("sink", message)])
    output = outputs[signal] if signal else next(iter(outputs.values()))
    return next(one for one in outputs_of(exporter) if one.name == output)


def host_of(sink: Sink) -> tuple[str, int]:
    """Return host, without the dot of a full name, and port of a sink's endpoint."""
    url = URL(sink.endpoint.url)
    return (url.raw_host or "").rstrip("."), url.port or 0
