"""Outputs: of a sink, one for each signal that it sends.

* An output is a sink of its own: it has its own queue, retries, ledger and place on disk, so that
  no signal waits for another. The output of metrics is the sink itself.
* Its name is the sink's with ``/logs`` or ``/traces`` behind it, which no sink's name contains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from relay.codec.signal_names import RECORD_SIGNALS, RECORD_UNITS, SignalName
from relay.config.exporter.endpoints import METRICS_PATH
from relay.config.exporter.types import Exporter, OtlpHttp, RecordSource, Sink


def outputs_of(exporter: Exporter) -> tuple[Sink, ...]:
    """Return all outputs of an exporter's sinks, those of metrics first."""
    return (*exporter.sinks, *record_outputs(exporter))


def record_outputs(exporter: Exporter) -> Iterator[Sink]:
    """Yield the outputs of logs and traces of an exporter's sinks."""
    for signal in RECORD_SIGNALS:
        names = [one.name for one in exporter.record_sources if one.signal == signal]
        for sink in exporter.sinks:
            taken = tuple(name for name in names if name in sink.sources)
            if taken and isinstance(sink.endpoint, OtlpHttp):
                yield _output(sink, sink.endpoint, signal, taken)


def outputs_by_signal(exporter: Exporter, sink: Sink) -> dict[str, str]:
    """Return the names of a sink's outputs that have sources, by signal; never empty."""
    if not exporter.record_sources:
        return {"metrics": sink.name}
    found = {
        output.name.removeprefix(f"{sink.name}/"): output.name
        for output in record_outputs(exporter)
        if output.name.startswith(f"{sink.name}/")
    }
    metrics = {source.name for source in exporter.sources}
    if not found or any(name in metrics for name in sink.sources):
        return {"metrics": sink.name, **found}
    return found


def signals_of(exporter: Exporter) -> dict[str, dict[str, str]]:
    """Return the names of the outputs of each sink that have sources, by sink and signal."""
    return {sink.name: outputs_by_signal(exporter, sink) for sink in exporter.sinks}


def main_url(exporter: Exporter, sink: Sink) -> str:
    """Return the URL of a sink's metrics, or of the first signal that it sends without them."""
    main = next(iter(outputs_by_signal(exporter, sink).values()))
    return output_urls(exporter).get(main, sink.endpoint.url)


def output_urls(exporter: Exporter) -> dict[str, str]:
    """Return the URL of each output of logs and traces, by name."""
    return {output.name: output.endpoint.url for output in record_outputs(exporter)}


def sources_of(exporter: Exporter, signal: SignalName) -> Iterator[RecordSource]:
    """Yield the sources of a signal of records."""
    return (one for one in exporter.record_sources if one.signal == signal)


def output_name(sink: str, signal: SignalName) -> str:
    """Return the name of a sink's output of a signal."""
    return sink if signal == "metrics" else f"{sink}/{signal}"


def carries_records(output: str) -> bool:
    """Return whether an output of this name sends logs or traces."""
    return "/" in output


def unit_of(output: str) -> str:
    """Return the word for what an output of this name counts."""
    return RECORD_UNITS.get(signal_of(output), "points")


def signal_of(output: str) -> str:
    """Return the signal of an output of this name."""
    return output.rpartition("/")[2] if carries_records(output) else "metrics"


def _output(sink: Sink, endpoint: OtlpHttp, signal: SignalName, sources: tuple[str, ...]) -> Sink:
    appended = f"{endpoint.url.removesuffix(METRICS_PATH)}/v1/{signal}"
    own = replace(
        endpoint,
        url=dict(endpoint.signal_urls).get(signal, appended),
        signal=signal,
        request_bytes_max=dict(endpoint.signal_bytes_max).get(signal, endpoint.request_bytes_max),
    )
    return replace(sink, name=output_name(sink.name, signal), endpoint=own, sources=sources)
