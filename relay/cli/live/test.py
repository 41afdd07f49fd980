"""Implement ``relay test``: send one synthetic point to one sink, and tell each step.

A running exporter is tested by the relay that runs it, one behind a relay's own API by that relay;
one in files or on Kubernetes by this process, with its own network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from relay.cli.live.admin_client import add_relay_argument, ask, events
from relay.cli.live.kubernetes import fetch_secrets
from relay.cli.live.kubernetes_arguments import (
    access_of,
    add_kubernetes_arguments,
    wants_kubernetes,
)
from relay.cli.live.own_api import TESTS, answers, ask_api, namespace_and_name
from relay.cli.live.subject import as_exporter, document_in_files, document_on_kubernetes
from relay.cli.usage import UsageError
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.secrets import SecretStore
from relay.config.exporter.types import Exporter, ExporterPath, Sink
from relay.config.settings.settings import Settings, load_settings
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.sink_test.service import require_sink
from relay.control.sink_test.trial import TestEvent, TestNetwork, try_sink
from relay.control.sink_test.verdict import TestStep
from relay.runtime.event_loop import run_on_uvloop
from relay.runtime.excerpt import printable


def add_test_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_relay_argument(parser)
    add_kubernetes_arguments(parser)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings with the secrets, the proxy and allowPrivateEndpoints of the relay",
    )
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="mounted secrets")
    parser.add_argument(
        "--exporter",
        default="",
        metavar="ID",
        help="with --relay a running one, otherwise that of PATH or Kubernetes",
    )
    parser.add_argument("--sink", default="", metavar="NAME", help="needed if there are several")
    parser.add_argument("path", nargs="?", type=Path, metavar="PATH", help="manifest or directory")


def run_test(arguments: argparse.Namespace) -> int:
    """Test the sink; return 0 if its endpoint took the point, else 1. Raises ConfigError."""
    ways = [arguments.relay, arguments.path, wants_kubernetes(arguments) or None]
    if sum(way is not None for way in ways) != 1:
        raise UsageError("PATH", "or --relay or --kubernetes is required, one of them")
    if arguments.relay is not None:
        return _ask_relay(arguments)
    if wants_kubernetes(arguments):
        access = access_of(arguments)
        if answers(access, TESTS):  # it shows nobody the Secrets that a test needs
            return _ask_own_api(access, arguments)
    exporter, sink, secrets, settings = _subject(arguments)
    network = TestNetwork(settings.allow_private_endpoints, settings.proxy)
    print(f"{exporter.id}, sink {sink.name}: {sink.endpoint.url}")
    return run_on_uvloop(_show(try_sink(exporter, sink, secrets.of(exporter), network)))


def _subject(arguments: argparse.Namespace) -> tuple[Exporter, Sink, SecretStore, Settings]:
    """Return what is tested in this process."""
    settings = load_settings(arguments.config) if arguments.config else Settings()
    if wants_kubernetes(arguments):
        exporter = as_exporter(document_on_kubernetes(arguments), "")
        sink = require_sink(exporter, arguments.sink)
        return exporter, sink, fetch_secrets(access_of(arguments), exporter, sink), settings
    exporter = as_exporter(document_in_files(arguments.path, arguments.exporter), "")
    loaded = load_exporters(
        [ExporterPath(arguments.path)],
        secrets_root=arguments.secrets or settings.secrets,
        need_secrets=False,
    )
    return exporter, require_sink(exporter, arguments.sink), loaded.secrets, settings


async def _show(found: AsyncIterator[TestEvent]) -> int:
    ok = False
    async for event in found:
        if isinstance(event, TestStep):
            _print([_step_line(event.document())])
        else:
            ok = event.ok
            _print(_verdict_lines(event.document()))
    return 0 if ok else 1


def _ask_relay(arguments: argparse.Namespace) -> int:
    query = {"exporter": arguments.exporter, "sink": arguments.sink}
    ok = False
    with ask(arguments.relay, "test", query, post=True) as answer:
        for event in events(answer):
            if event["event"] == "step":
                _print([_step_line(event)])
            else:
                ok = bool(event["ok"])
                _print(_verdict_lines(event))
    return 0 if ok else 1


def _ask_own_api(access: ClusterAccess, arguments: argparse.Namespace) -> int:
    if not arguments.exporter:
        raise UsageError("--exporter", "is required with --kubernetes")
    namespace, name = namespace_and_name(access, arguments.exporter)
    spec = {"exporter": name, **({"sink": arguments.sink} if arguments.sink else {})}
    status = ask_api(access, TESTS, namespace, spec)
    _print([_step_line(step) for step in status["steps"]])
    _print(_verdict_lines(status))
    return 0 if status["ok"] else 1


def _step_line(step: Mapping[str, Any]) -> str:
    mark = "ok  " if step["ok"] else "FAIL"
    return f"{mark} {step['name']:<12}{step['seconds']:>8.3f} s  {step['message']}".rstrip()


def _verdict_lines(verdict: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'good' if verdict['ok'] else 'bad'}: {verdict['message']}"
    if verdict["advice"]:
        yield f"what to do: {verdict['advice']}"


def _print(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        print(printable(line))
    sys.stdout.flush()
