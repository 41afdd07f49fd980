"""Run the demo: platform, relay and endpoints on one event loop, displayed and then audited.

Order of the end: the agents first, each after the response to its last request; then the relay,
which drains to endpoints that are all up; the audit last.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiohttp

from relay.api.status import StatusSource
from relay.app import Relay
from relay.cli.demo import display, story
from relay.cli.demo.access import ApiAccess, hand_out, make_tokens
from relay.cli.demo.agent import Agent, wait_for
from relay.cli.demo.audit import Audit, audit
from relay.cli.demo.behaviour import Behaviour, Outage, reject_summaries, take_all
from relay.cli.demo.platform import CUSTOMERS, Platform
from relay.cli.demo.receiver import Receiver
from relay.cli.demo.records.agent import RecordAgent
from relay.cli.demo.records.platform import LogCollector, TraceCollector
from relay.cli.demo.scenario import GUEST, cast, stage
from relay.cli.demo.write_receiver import WriteReceiver
from relay.cli.live.screen import Screen
from relay.codec.compression import SENDER_ENCODINGS
from relay.config.settings.settings import Settings
from relay.control.reconcile.sink_entry import SinkKey
from relay.runtime.log_setup import TextFormatter

CYCLE_S_MAX = 30.0
"""Longest cycle of the outage; s. Shorter demos have one cycle."""

DRAW_LIVE_S, DRAW_BLOCK_S = 1.0, 5.0

_FAULT_OF_API = "faulty: api: "
"""Begins lines of the log about faults of objects that came by the API: its writer's, no bug."""

RECORDS_S = 0.2
"""Seconds between two requests of logs, and of traces."""

ERRORS_MAX = 20
"""Most log lines of level ERROR shown at the end: each is a bug."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line. ``rate`` in requests per second; ``seconds`` None: no end."""

    seconds: float | None = None
    series: int = 2_000
    rate: float = 10.0
    seed: int = 1
    directory: Path | None = None
    """Directory of the kubeconfigs and manifests for the reader; None: a temporary one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a demo: the ledger, and errors that the relay logged."""

    audit: Audit
    errors: tuple[str, ...]

    @property
    def good(self) -> bool:
        """True if everything balances and nothing was logged as an error."""
        return not self.audit.faults() and not self.errors


def behaviours(cycle_s: float) -> dict[SinkKey, Behaviour]:
    """Return the behaviours of the endpoints that are not simply healthy."""
    return {
        ("globex/default/everything", "collector-us"): Outage(cycle_s),
        ("initech/production/workloads", "metrics-vendor"): reject_summaries,
    }


RECEIVERS: dict[str, type[Receiver]] = {
    "otlp_http": Receiver,
    "prometheusRemoteWrite": WriteReceiver,
}
"""By the kind of sink."""


class Demo:
    """One run of the demo. Tests replace endpoints' behaviours by ``misbehave``."""

    def __init__(
        self,
        options: Options,
        screen: Screen,
        *,
        misbehave: Mapping[SinkKey, Behaviour] | None = None,
    ) -> None:
        self._options = options
        self._screen = screen
        self._started_at = 0.0
        cycle_s = min(options.seconds or CYCLE_S_MAX, CYCLE_S_MAX)
        self._behaviours = {**behaviours(cycle_s), **(misbehave or {})}
        self._stop = asyncio.Event()
        self._agents: tuple[Agent, ...] = ()
        self._record_agents: tuple[RecordAgent, ...] = ()
        self._pace = display.DemoPace()

    async def run(self) -> Outcome:
        """Run and display until the time is over, or SIGINT or SIGTERM.

        Raise ConfigError if the relay does not start.
        """
        async with AsyncExitStack() as stack:
            errors = stack.enter_context(_collected_errors())
            stack.enter_context(self._stopped_by_signals())
            parts = await asyncio.to_thread(cast)
            by_api = {part.key for part in parts if part.by_api}
            receivers: dict[SinkKey, Receiver] = {}
            for part in parts:
                behaviour = self._behaviours.get(part.key, take_all)
                receiver = RECEIVERS[part.kind](behaviour, part.credentials, self._elapsed_s)
                receivers[part.key] = receiver
                stack.push_async_callback(receiver.stop)
                await receiver.start()
            origins = {part.origin: receivers[part.key].origin for part in parts}
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-"))
            directory, tokens = Path(place), make_tokens(CUSTOMERS)
            settings = await asyncio.to_thread(stage, directory, origins, tokens)
            if self._options.directory is not None:
                await asyncio.to_thread(hand_out, directory / GUEST, self._options.directory)
                directory = self._options.directory
            jitter = random.Random(self._options.seed)  # noqa: S311 - no secret
            relay = Relay(settings, rng=jitter)
            await relay.start()
            try:
                access = await asyncio.to_thread(_give_access, relay, settings, tokens, directory)
                await self._perform(relay, access)
            finally:
                await relay.stop()
            result = audit(
                [agent.statistics() for agent in self._agents],
                relay.facts(),
                {
                    key: receivers[part.key].statistics(signal)
                    for part in parts
                    for signal, key in part.outputs.items()
                },
                by_api=by_api,
                records=[agent.statistics() for agent in self._record_agents],
            )
        self._screen.print(display.render_ledger(result))
        packaged = {part.key[0] for part in parts if not part.by_api}
        return Outcome(result, _unexpected(errors, packaged))

    async def _perform(self, relay: Relay, access: ApiAccess) -> None:
        """Let the agents send until the end, then end the outages before the drain."""
        options = self._options
        platform = Platform(
            series=options.series, scrapers=len(SENDER_ENCODINGS), seed=options.seed
        )
        ingest = f"http://{relay.ingest_address}"
        self._screen.print(
            story.introduction(
                platform.series, options.rate, ingest, f"http://{relay.admin_address}"
            )
        )
        self._screen.print(story.invitation(access, with_kubectl=bool(shutil.which("kubectl"))))
        self._started_at = time.monotonic()
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            self._agents = tuple(
                Agent(
                    scraper,
                    session,
                    f"{ingest}/api/v1/write",
                    encoding,
                    interval_s=len(SENDER_ENCODINGS) / options.rate,
                )
                for scraper, encoding in zip(platform.scrapers, SENDER_ENCODINGS, strict=True)
            )
            self._record_agents = tuple(
                RecordAgent(
                    collector,
                    session,
                    f"{ingest}/v1/{collector.signal}",
                    interval_s=RECORDS_S,
                )
                for collector in (LogCollector(options.seed), TraceCollector(options.seed))
            )
            for agent in self._agents:
                group.create_task(agent.run(self._stop))
            for record_agent in self._record_agents:
                group.create_task(record_agent.run(self._stop))
            await self._watch(relay)
            self._stop.set()
        for behaviour in self._behaviours.values():
            if isinstance(behaviour, Outage):
                behaviour.end()
        self._screen.print(story.draining())

    async def _watch(self, relay: Relay) -> None:
        """Draw the table repeatedly until the end, and once more then."""
        seconds = self._options.seconds
        interval_s = DRAW_LIVE_S if self._screen.live else DRAW_BLOCK_S
        left_s = seconds if seconds is not None else math.inf
        while not self._stop.is_set() and left_s > 0:
            await wait_for(self._stop, min(interval_s, left_s))
            self._show(display.render(self._view(relay.facts())))
            if seconds is not None:
                left_s = seconds - self._elapsed_s()

    def _show(self, lines: list[str]) -> None:
        """Show the table; where it is redrawn, as much of it as the terminal has room for."""
        if self._screen.live:
            lines = display.cut(lines, shutil.get_terminal_size().lines - 1)
        self._screen.show(lines)

    def _view(self, facts: StatusSource) -> display.View:
        elapsed_s = self._elapsed_s()
        return display.View(
            elapsed_s=elapsed_s,
            seconds=self._options.seconds,
            agents=tuple(agent.statistics() for agent in self._agents),
            received=facts.engine.received_samples,
            unmatched=facts.engine.router.unmatched_samples,
            series=facts.engine.table.active,
            sinks=self._pace.rows(facts.sinks, elapsed_s=elapsed_s, now=facts.now),
            records=tuple(
                (statistics, view.statistics)
                for statistics in (agent.statistics() for agent in self._record_agents)
                for view in facts.records
                if view.signal == statistics.signal
            ),
        )

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_at

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the demo in order.

        Repeated signals have no effect: the drain timeout bounds the end, and a second Ctrl-C must
        not spoil the ledger.
        """
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._stop.set)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def __repr__(self) -> str:
        return f"<Demo {self._options}>"


def _give_access(
    relay: Relay, settings: Settings, tokens: Mapping[str, str], directory: Path
) -> ApiAccess:
    """Write what the customers need for the API of a relay that has started."""
    assert relay.own_api is not None, "the packaged settings have an API"
    assert settings.api is not None, "the same"
    listen, http_listen = relay.own_api.addresses
    access = ApiAccess(listen, http_listen, tokens, directory)
    access.write_kubeconfigs(settings.api)
    return access


class _LoggedError(NamedTuple):
    """A line, and what it says of points that were given up; ``exporter`` "" for all together."""

    line: str
    exporter: str
    points: int


def _unexpected(errors: Iterable[_LoggedError], packaged: AbstractSet[str]) -> tuple[str, ...]:
    """Return the lines but those of points that exporters of the API could not deliver.

    These may be faulty, and the ledger shows the points as dropped.
    """
    others = [one for one in errors if not one.exporter or one.exporter in packaged]
    given_up = sum(one.points for one in errors if one not in others)
    return tuple(one.line for one in others if not one.points or one.points != given_up)


class _ErrorLog(logging.Handler):
    """Collect the first error lines, which would disturb a live table."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.setFormatter(TextFormatter())
        self.errors: list[_LoggedError] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect one record, unless it is of an Exporter that somebody wrote by the API."""
        if record.getMessage().startswith(_FAULT_OF_API):
            return
        if len(self.errors) < ERRORS_MAX:
            exporter, points = getattr(record, "exporter", ""), getattr(record, "points", 0)
            self.errors.append(_LoggedError(self.format(record), exporter, points))


@contextmanager
def _collected_errors() -> Iterator[list[_LoggedError]]:
    """Collect everything logged as an error in the context."""
    handler = _ErrorLog()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler.errors
    finally:
        root.removeHandler(handler)
