"""Implement ``relay explain``.

Asks a running relay (``--relay``, or its own API by ``--kubernetes``), or reads settings
(``--config``), manifests (``--exporters``) or a Kubernetes API (``--kubernetes``) and answers for a
relay just started with them that has received no info series.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relay.cli.captured_body import read_captured
from relay.cli.live.admin_client import ANSWER_BYTES_MAX, ask
from relay.cli.live.kubernetes import fetch_all
from relay.cli.live.kubernetes_arguments import (
    access_of,
    add_kubernetes_arguments,
    wants_kubernetes,
)
from relay.cli.live.own_api import EXPLANATIONS, answers, ask_api, namespace_and_name
from relay.cli.usage import UsageError
from relay.codec.signal_names import SIGNALS
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import Exporter
from relay.config.inventory_manifests import load_inventory
from relay.config.settings.settings import ExporterPath, Settings, load_settings
from relay.control.build_pipeline import resource_tenants_of, tenancy_of
from relay.control.captured_records import captured_records
from relay.control.explain import Explainer, parse_series
from relay.control.explain_records import RecordRules, explain_records, parse_attributes
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.pipeline.routing.tenancy import ANYWHERE, MULTITENANT, IngestPath
from relay.runtime.errors import ConfigError, DecodeError, Fault, SelectorError
from relay.selector.inventory.info_series import InfoReader
from relay.selector.inventory.store import Inventory, ManifestIndex
from relay.selector.resources.compiler import Compiler


def add_explain_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--relay", metavar="URL", help="ask a running relay at its admin address")
    source.add_argument("--config", type=Path, metavar="FILE", help="settings (relay.yaml)")
    source.add_argument(
        "--exporters",
        type=Path,
        metavar="PATH",
        action="append",
        help="Exporter manifests; may be repeated",
    )
    add_kubernetes_arguments(parser, source)
    parser.add_argument(
        "--inventory",
        type=Path,
        metavar="PATH",
        action="append",
        help="with --exporters: manifests of namespaces and resources; may be repeated",
    )
    parser.add_argument(
        "--account", default="", metavar="ID[:PROJECT]|multitenant", help="as in the ingest path"
    )
    parser.add_argument("--exporter", default="", metavar="NAME", help="ask this exporter alone")
    parser.add_argument(
        "--all",
        action="store_true",
        help="list the exporters that do not take it",
    )
    parser.add_argument(
        "--from",
        dest="body",
        type=Path,
        metavar="FILE",
        help="""a captured request of remote write or OTLP (protobuf or JSON): list what of it the
        exporter takes, and which log records and spans it does not, and why""",
    )
    parser.add_argument(
        "--signal",
        choices=SIGNALS,
        help="""with logs or traces the question is a resource; with --from the signal of the
        request, which is found out without""",
    )
    parser.add_argument(
        "question",
        metavar="SERIES|RESOURCE|EXPORTER",
        help="""a series such as 'up{job="node"}', or a resource such as '{service.name="a"}';
        with --from the name of an exporter""",
    )


def run_explain(arguments: argparse.Namespace) -> int:
    """Print the answer and return the exit status. Raise ConfigError for an invalid question."""
    if arguments.inventory and not arguments.exporters:
        raise ConfigError([Fault("--inventory", "goes with --exporters only")])
    ways = (arguments.relay, arguments.config, arguments.exporters)
    if not any(ways) and not wants_kubernetes(arguments):
        raise UsageError("--relay", "or --config, --exporters or --kubernetes is required")
    if any(ways) and wants_kubernetes(arguments):
        raise UsageError("--kubernetes", "does not go with --relay, --config or --exporters")
    if arguments.relay:
        return _ask_relay(arguments)
    settings = load_settings(arguments.config) if arguments.config else Settings()
    if wants_kubernetes(arguments):
        access = access_of(arguments)
        if arguments.body is None and not arguments.account and answers(access, EXPLANATIONS):
            return _ask_own_api(access, arguments)
        found = fetch_all(access)
        namespaces = ManifestIndex(found.namespaces)
        _print_answer(arguments, settings, found.exporters, namespaces, found.faults)
        return 0
    if arguments.exporters:
        settings = Settings(exporters=tuple(map(ExporterPath, arguments.exporters)))
    origin = _origin(arguments.account, settings)
    paths = settings.exporters
    if settings.tenancy is not None and not arguments.all and not _asks_records(arguments):
        # Exporters of other projects cannot match, so they need not be loaded.
        project = _project(arguments, settings, origin)
        own = tuple(path for path in paths if path.project == project)
        # An id without its project: those that may be meant are in any of them.
        paths = own if own or not _exporter_of(arguments) else paths
    loaded = load_exporters(paths, tenancy=settings.tenancy is not None, need_secrets=False)
    objects = load_inventory(
        [*settings.inventory.manifests, *map(ExporterPath, arguments.inventory or ())]
    )
    faults = (*loaded.faults, *objects.faults)
    _print_answer(arguments, settings, loaded.exporters, objects.index, faults)
    return 1 if loaded.faults and not loaded.exporters else 0


def _print_answer(
    arguments: argparse.Namespace,
    settings: Settings,
    exporters: Iterable[Exporter],
    objects: ManifestIndex,
    left_out: Iterable[Fault],
) -> None:
    """Answer the question about exporters that do not run in this process."""
    for fault in left_out:
        print(f"left out: {fault}", file=sys.stderr)
    exporters = tuple(exporters)
    inventory = Inventory(objects_max=settings.inventory.objects_max)
    inventory.replace_manifests(objects)
    origin = _origin(arguments.account, settings)
    explainer = Explainer.offline(
        exporters,
        tenancy=tenancy_of(settings),
        compiler=Compiler(settings.resources),
        inventory=inventory,
        infer_types=settings.translation.infer_types,
    )
    if arguments.exporter:
        explainer.require(arguments.exporter, "--exporter")
    if arguments.body is not None:
        explainer.require(arguments.question, "EXPORTER")
        by_id = {one.id: one for one in exporters}
        lines = _captured(
            arguments, settings, explainer, by_id, _rules(settings, inventory), origin
        )
    elif _asks_records(arguments):
        lines = _explain_records(arguments, exporters, _rules(settings, inventory), origin)
    else:
        lines = explainer.series(
            _parse(arguments.question),
            origin=origin,
            exporter=arguments.exporter,
            every=arguments.all,
        )
    try:
        for line in lines:
            print(line)
    except DecodeError as error:
        message = f"is no request of remote write or OTLP: {error}"
        raise ConfigError([Fault("--from", message)]) from error


def _captured(
    arguments: argparse.Namespace,
    settings: Settings,
    explainer: Explainer,
    exporters: Mapping[str, Exporter],
    rules: RecordRules,
    origin: IngestPath,
) -> Iterator[str]:
    """Answer the question about a captured request."""
    name = arguments.question
    body, signal = read_captured(arguments.body, arguments.signal)
    if signal is None:
        reader = InfoReader(settings.inventory.info_series)
        return explainer.captured(body, name, reader=reader, origin=origin)
    if signal == "metrics":
        return explainer.captured_streams(body, name, tenants=rules.tenants, origin=origin)
    return captured_records(body, exporters[name], signal, rules, origin=origin)


def _asks_records(arguments: argparse.Namespace) -> bool:
    return arguments.signal in ("logs", "traces")


def _rules(settings: Settings, inventory: Inventory) -> RecordRules:
    return RecordRules(
        resource_tenants_of(settings),
        Compiler(settings.resources),
        inventory,
        settings.otlp.category_attribute,
    )


def _explain_records(
    arguments: argparse.Namespace,
    exporters: Iterable[Exporter],
    rules: RecordRules,
    origin: IngestPath,
) -> Iterator[str]:
    """Answer the question about a resource of logs or traces."""
    try:
        attributes = parse_attributes(arguments.question)
    except SelectorError as error:
        raise ConfigError([Fault("RESOURCE", f"{error}\n{error.caret()}")]) from error
    return explain_records(
        {one.id: one for one in exporters},
        arguments.signal,
        attributes,
        rules,
        origin=origin,
        exporter=arguments.exporter,
        every=arguments.all,
    )


def _project(arguments: argparse.Namespace, settings: Settings, origin: IngestPath) -> str:
    """Return the project that the question is about."""
    exporter = _exporter_of(arguments)
    if exporter:
        return exporter.partition("/")[0]
    return tenancy_of(settings).project_of(_parse(arguments.question), origin)


def _exporter_of(arguments: argparse.Namespace) -> str:
    """Return the exporter that the question is about, "" for all."""
    exporter = arguments.question if arguments.body is not None else arguments.exporter
    return str(exporter or "")


def _parse(text: str) -> dict[str, str]:
    try:
        return parse_series(text)
    except SelectorError as error:
        raise ConfigError([Fault("SERIES", f"{error}\n{error.caret()}")]) from error


def _origin(account: str, settings: Settings) -> IngestPath:
    if not account:
        return ANYWHERE
    if account == "multitenant":
        return MULTITENANT
    parts = account.split(":")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError([Fault("--account", "must be <accountID>, with :<projectID>")])
    return tenancy_of(settings).origin((int(parts[0]), int(parts[1]) if parts[1:] else 0))


def _ask_own_api(access: ClusterAccess, arguments: argparse.Namespace) -> int:
    """Ask a relay's own API, whose answer is of the series that it has now."""
    spec: dict[str, Any] = {"series": arguments.question, "all": arguments.all}
    if _asks_records(arguments):
        spec["signal"] = arguments.signal
    namespace = access.namespace or "default"
    if arguments.exporter:
        namespace, spec["exporter"] = namespace_and_name(access, arguments.exporter)
    for line in ask_api(access, EXPLANATIONS, namespace, spec)["lines"]:
        print(line)
    return 0


def _ask_relay(arguments: argparse.Namespace) -> int:
    """Send the question to a running relay and print its answer."""
    if arguments.body is not None:
        raise ConfigError([Fault("--from", "goes with --config or --exporters, not with --relay")])
    question = {"series": arguments.question, "account": arguments.account}
    if _asks_records(arguments):
        question["signal"] = arguments.signal
    question |= {"exporter": arguments.exporter, "all": "yes" if arguments.all else ""}
    with ask(arguments.relay, "explain", question) as answer:
        print(answer.read(ANSWER_BYTES_MAX).decode(), end="")
    return 0
