"""The tools for exporters of one relay: previews, tests of sinks, taps, explanations.

The admin listener and the relay's own API ask the same ones, so that their limits count together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relay.config.exporter.types import Exporter
from relay.config.settings.settings import Settings
from relay.control.explain_records import rules_of
from relay.control.explain_service import ExplainService
from relay.control.preview.service import PreviewService
from relay.control.sink_test.service import SinkTestService
from relay.control.sink_test.trial import TestNetwork
from relay.control.tap.tap import TappedSink, TapService
from relay.control.time_slicing import Turns
from relay.pipeline.signals import Signals
from relay.selector.resources.compiler import Compiler
from relay.sink.http.credentials import SecretLookup


@dataclass(frozen=True, slots=True)
class ExporterTools:
    """The tools, each opened by a query; all raise RelayError before the first event."""

    preview: PreviewService
    test: SinkTestService
    tap: TapService
    explain: ExplainService


@dataclass(frozen=True, slots=True)
class ToolAccess:
    """The part of the relay that tools read: its exporters, their secrets, and the sinks' workers.

    ``worker`` is called with an exporter's id and the name of a sink.
    """

    exporters: Callable[[], Iterable[Exporter]]
    secrets: Callable[[Exporter], SecretLookup]
    worker: Callable[[str, str], TappedSink | None]


def make_tools(
    settings: Settings, signals: Signals, turns: Turns, running: ToolAccess
) -> ExporterTools:
    """Make the tools of a relay with these settings."""
    engine, exporters = signals.metrics, running.exporters
    network = TestNetwork(settings.allow_private_endpoints, settings.proxy)
    return ExporterTools(
        PreviewService(
            engine, turns, exporters, Compiler(settings.resources), tuple(signals.records)
        ),
        SinkTestService(exporters, running.secrets, network),
        TapService(exporters, running.worker, allowed=settings.admin.tap),
        ExplainService(engine, turns, exporters, rules_of(signals)),
    )
