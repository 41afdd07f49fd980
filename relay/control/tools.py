"""The tools for exporters of one relay: previews, tests of sinks, taps, explanations.

The admin listener and the relay's own API ask the same ones, so that their limits count together.
Most relays are asked for none: each is made, and its modules are imported, when it is first asked.
Together they take 1 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from relay.config.exporter.types import Exporter
from relay.config.settings.settings import Settings
from relay.control.time_slicing import Turns
from relay.pipeline.signals import Signals
from relay.sink.http.credentials import SecretLookup

if TYPE_CHECKING:
    from relay.control.explain import ExplainQuery
    from relay.control.explain_service import ExplainService
    from relay.control.preview.service import PreviewService
    from relay.control.sink_test.service import SinkTestService
    from relay.control.tap.tap import TappedSink, TapService


class ToolAccess(msgspec.Struct, frozen=True):
    """The part of the relay that tools read: its exporters, their secrets, and the sinks' workers.

    ``worker`` is called with an exporter's id and the name of a sink.
    """

    exporters: Callable[[], Iterable[Exporter]]
    secrets: Callable[[Exporter], SecretLookup]
    worker: Callable[[str, str], TappedSink | None]


class ExporterTools:
    """The tools, each opened by a query; all raise RelayError before the first event.

    Lives on the event loop.
    """

    def __init__(
        self, settings: Settings, signals: Signals, turns: Turns, running: ToolAccess
    ) -> None:
        self._settings = settings
        self._signals = signals
        self._turns = turns
        self._running = running

    @cached_property
    def preview(self) -> PreviewService:
        """Previews of running exporters and of manifests."""
        from relay.control.preview.service import PreviewService
        from relay.selector.resources.compiler import Compiler

        return PreviewService(
            self._signals.metrics,
            self._turns,
            self._running.exporters,
            Compiler(self._settings.resources),
            tuple(self._signals.records),
        )

    @cached_property
    def test(self) -> SinkTestService:
        """Tests of sinks."""
        from relay.control.sink_test.service import SinkTestService
        from relay.control.sink_test.trial import TestNetwork

        settings, running = self._settings, self._running
        network = TestNetwork(settings.allow_private_endpoints, settings.proxy)
        return SinkTestService(running.exporters, running.secrets, network)

    @cached_property
    def tap(self) -> TapService:
        """Taps of sinks, where the settings allow them."""
        from relay.control.tap.tap import TapService

        running, allowed = self._running, self._settings.admin.tap
        return TapService(running.exporters, running.worker, allowed=allowed)

    @cached_property
    def explain(self) -> ExplainService:
        """Explanations of series and resources."""
        from relay.control.explain_records import rules_of
        from relay.control.explain_service import ExplainService

        return ExplainService(
            self._signals.metrics, self._turns, self._running.exporters, rules_of(self._signals)
        )

    async def explained(self, query: ExplainQuery) -> list[str]:
        """Return lines on all exporters, as :meth:`ExplainService.answer`. Raises ConfigError."""
        return await self.explain.answer(query)

    def __repr__(self) -> str:
        made = sorted(name for name in vars(self) if not name.startswith("_"))
        return f"<ExporterTools, asked for {', '.join(made) or 'none'}>"
