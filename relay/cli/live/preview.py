"""Implement ``relay preview``: the series and records of a running relay that an Exporter takes."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from relay.apiserver.actions.previews import MEASURE_S_MAX
from relay.cli.check import counted
from relay.cli.live.admin_client import DEFAULT_URL, add_relay_argument, ask, events
from relay.cli.live.kubernetes_arguments import (
    access_of,
    add_kubernetes_arguments,
    wants_kubernetes,
)
from relay.cli.live.own_api import PREVIEWS, answers, ask_api, namespace_and_name
from relay.cli.live.subject import as_manifest, document_in_files, document_on_kubernetes
from relay.cli.usage import UsageError
from relay.codec.signal_names import RECORD_UNITS
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.excerpt import printable

MEASURE_S = 40
"""Longest measurement of samples a minute by default; s: two scrapes of most senders."""
_SEVERITY = re.compile(r"(?:^| and )severity [A-Z]+ or more")


def add_preview_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_relay_argument(parser, shown=DEFAULT_URL)
    add_kubernetes_arguments(parser)
    parser.add_argument(
        "--exporter",
        default="",
        metavar="ID",
        help="with PATH or --kubernetes: this one, as [namespace/]name; alone: a running one",
    )
    parser.add_argument(
        "--project", default="", metavar="NAME", help="of the manifest, where the relay has tenancy"
    )
    parser.add_argument(
        "--measure",
        type=int,
        default=MEASURE_S,
        metavar="SECONDS",
        help=f"longest time to measure samples a minute ({MEASURE_S}); 0: do not",
    )
    parser.add_argument("path", nargs="?", type=Path, metavar="PATH", help="manifest or directory")


def run_preview(arguments: argparse.Namespace) -> int:
    """Ask the relay and print what it counts. Raises ConfigError."""
    result = _ask_own_api(arguments) if wants_kubernetes(arguments) else None
    if result is None:
        result = _ask_relay(arguments)
    for line in render(result):
        print(printable(line))
    return 0


def _ask_own_api(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return the answer of a relay's own API, None where it is to be asked for the object alone."""
    access = access_of(arguments)
    if arguments.relay is not None or not answers(access, PREVIEWS):
        return None
    if arguments.path is not None:
        document = document_in_files(arguments.path, arguments.exporter)
        value = msgspec.json.decode(as_manifest(document, arguments.project), type=dict[str, Any])
        namespace = value["metadata"].get("namespace") or access.namespace or "default"
        exporter: Any = value
    elif arguments.exporter:
        namespace, exporter = namespace_and_name(access, arguments.exporter)
    else:
        raise UsageError("--exporter", "is required with --kubernetes")
    spec = {"exporter": exporter, "measureSeconds": min(arguments.measure, MEASURE_S_MAX)}
    return ask_api(access, PREVIEWS, namespace, spec)


def _ask_relay(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the answer of the admin listener."""
    query = {"measure": str(arguments.measure)}
    body = b""
    if arguments.path is not None and wants_kubernetes(arguments):
        raise UsageError("PATH", "does not go with --kubernetes")
    if arguments.path is not None or wants_kubernetes(arguments):
        document = (
            document_on_kubernetes(arguments)
            if arguments.path is None
            else document_in_files(arguments.path, arguments.exporter)
        )
        body = as_manifest(document, arguments.project)
        query["project"] = arguments.project
    elif arguments.exporter:
        query["exporter"] = arguments.exporter
    else:
        raise UsageError("PATH", "or --exporter is required")
    progress = _Progress()
    result: dict[str, Any] | None = None
    relay = arguments.relay or DEFAULT_URL
    try:
        with ask(relay, "preview", query, post=True, body=body) as answer:
            for event in events(answer):
                if event["event"] == "progress":
                    progress.show(event)
                else:
                    result = event
    except KeyboardInterrupt:
        if result is None:
            raise
    progress.clear()
    if result is None:
        raise ConfigError([Fault("--relay", "the answer ended before its result")])
    return result


class _Progress:
    """Shows progress on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def show(self, event: Mapping[str, Any]) -> None:
        if self._live:
            done, of = event["done"], event["of"]
            what = (
                f"measuring samples a minute: {done:.0f} of at most {of:.0f} s"
                if event["step"] == "seconds"
                else f"{done:,.0f} of {of:,.0f} series"
            )
            sys.stderr.write(f"\r\x1b[K{what}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def render(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a result."""
    total = result["total"]
    if result["sources"] or not result.get("records"):
        yield (
            f"{result['exporter']} takes {total['series']:,} of {result['projectSeries']:,} series "
            f"now{_rate(total)}"
        )
    else:
        yield result["exporter"]
    for name, title in (("added", "more"), ("removed", "fewer")):
        change = result.get(name)
        if change is not None:
            yield f"  {change['series']:,} {title} than its running version"
            yield from (f"    {series}" for series in change["firstSeries"])
    for source in result["sources"]:
        more = f"{source['metrics']:,} or more metrics"
        metrics = more if source["hasMoreMetrics"] else counted(source["metrics"], "metric")
        yield (f"source {source['name']}: {source['series']:,} series of {metrics}{_rate(source)}")
        if source.get("sinksWithoutDeltas"):
            sinks = ", ".join(source["sinksWithoutDeltas"])
            yield (
                f"  {source['deltaSeries']:,} of them come as deltas, which sinks of cumulative "
                f"values drop (temporality): {sinks}"
            )
        for metric in source["topMetrics"]:
            yield f"  {metric['series']:>11,}  {metric['name']}"
        if source["firstSeries"]:
            yield "  first series:"
            yield from (f"    {series}" for series in source["firstSeries"])
    for source in result.get("records", ()):
        yield from _record_lines(source)
    if result["measuredSeconds"]:
        what = "samples" if not result.get("records") else "samples and records"
        yield f"{what} a minute: estimated from arrivals in {result['measuredSeconds']:.0f} s"


def _record_lines(source: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a source of logs or traces."""
    unit = RECORD_UNITS[source["signal"]]
    of = counted(source["ofResources"], "resource")
    yield (
        f"source {source['name']}: {source['resources']:,} of {of}, "
        f"of which {source['records']:,} {unit} came lately"
    )
    if source["asks"]:
        yield f"  takes of these what has {source['asks']}"
    if source.get("recordsPerMinute") is not None:
        yield (
            f"  about {source['recordsPerMinute']:,.0f} {unit} a minute would be sent, "
            f"{source.get('bytesPerMinute', 0):,.0f} bytes before compression"
        )
    if source["withoutSeverity"]:
        share = source["withoutSeverity"] / source["sampledRecords"]
        lost = ", and do not pass" if _SEVERITY.search(source["asks"]) else ""
        yield f"  {share:.0%} of sampled log records have no severity number{lost}"
    if source["firstResources"]:
        yield "  first resources:"
        yield from (f"    {resource}" for resource in source["firstResources"])


def _rate(selected: Mapping[str, Any]) -> str:
    rate = selected.get("samplesPerMinute")
    return "" if rate is None else f", about {rate:,.0f} samples a minute"
