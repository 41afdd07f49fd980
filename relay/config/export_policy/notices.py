"""Notices about ExportPolicies that are correct, and may not do what is expected of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relay.config.export_policy.dialect import KIND
from relay.config.exporter.types import BACKOFF_S_MAX, Exporter, RetrySettings, Sink
from relay.config.yaml.document import dotted
from relay.runtime.quantity import format_duration


def notices(exporters: Iterable[Exporter]) -> Iterator[str]:
    """Yield, once for each setting of ``retry``, when data is dropped that the queue could hold.

    Each names the first sink with that setting and counts the others.
    """
    found: dict[RetrySettings, list[tuple[Exporter, Sink]]] = {}
    for exporter in exporters:
        for sink in exporter.sinks if exporter.kind == KIND else ():
            found.setdefault(sink.retry, []).append((exporter, sink))
    for retry, sinks in found.items():
        exporter, sink = sinks[0]
        others = ""
        if len(sinks) > 1:
            others = f"; the same in {len(sinks) - 1} more sink{'s' if len(sinks) > 2 else ''}"
        yield (
            f"{exporter.origin}: {dotted(sink.places['retry'])}: after {_attempts(retry)}, what "
            f"the endpoint does not take is dropped{others}"
        )


def _attempts(retry: RetrySettings) -> str:
    """Return how often is tried, and how long the waits between are together."""
    if not retry.enabled or not retry.attempts_max:
        return "one attempt"
    longest = max(BACKOFF_S_MAX, retry.backoff_s)
    waits = [min(retry.backoff_s * 2.0**number, longest) for number in range(retry.attempts_max)]
    attempts = "1 retry" if retry.attempts_max == 1 else f"{retry.attempts_max} retries"
    return f"{attempts}, some {format_duration(sum(waits))}"
