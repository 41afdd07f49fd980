"""Parse the command line: ``relay COMMAND``.

Exit status: 0 success, 1 faults found or points lost, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from relay import __version__
from relay.app import Relay
from relay.cli.backup import (
    add_backup_arguments,
    add_restore_arguments,
    run_backup,
    run_restore,
)
from relay.cli.check import check, check_objects
from relay.cli.demo.command import add_demo_arguments, run_demo
from relay.cli.explain import add_explain_arguments, run_explain
from relay.cli.import_vector.command import add_import_arguments, run_import_vector
from relay.cli.kubeconfig import add_kubeconfig_arguments, run_kubeconfig
from relay.cli.live.kubernetes import (
    access_of,
    add_kubernetes_arguments,
    fetch_all,
    wants_kubernetes,
)
from relay.cli.live.preview import add_preview_arguments, run_preview
from relay.cli.live.tap import add_tap_arguments, run_tap
from relay.cli.live.test import add_test_arguments, run_test
from relay.cli.live.top import add_top_arguments, run_top
from relay.cli.usage import UsageError
from relay.config.settings.settings import Settings, is_of_flag, load_settings
from relay.runtime import log_setup
from relay.runtime.errors import ConfigError
from relay.runtime.event_loop import run_on_uvloop
from relay.runtime.excerpt import printable

EXIT_GOOD, EXIT_FAULTY, EXIT_USAGE = 0, 1, 2

SIGNAL_REPEAT_S = 0.2
"""Time in which a second signal counts as a repetition, because supervisors send several; s."""

_log = logging.getLogger("relay.cli")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; argparse exits with 2 on wrong usage."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ConfigError as error:
        for fault in error.faults:
            print(printable(f"relay: {fault}"), file=sys.stderr)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAULTY
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader closed the pipe; flushing the rest must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="relay", description="Remote-write in, customers' OTLP endpoints out."
    )
    parser.add_argument("--version", action="version", version=f"relay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run the relay until SIGTERM or SIGINT",
        epilog="Every flag replaces its setting. Changed manifests are taken over by themselves, "
        "or at once on SIGHUP; changed settings need a restart.",
    )
    run.add_argument("--config", type=Path, metavar="FILE", help="settings (relay.yaml)")
    run.add_argument("--listen", metavar="HOST:PORT", help="remote write in")
    run.add_argument("--admin-listen", metavar="HOST:PORT", help="metrics, health and status")
    run.add_argument(
        "--exporters", metavar="PATH", action="append", help="Exporter manifests; may be repeated"
    )
    run.add_argument("--secrets", metavar="DIR", help="mounted secrets")
    run.add_argument("--data", metavar="DIR", help="keep what is undelivered on disk, here")
    run.add_argument("--log-format", choices=("text", "json"), help="how log lines are written")
    run.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="the least that is logged",
    )
    run.set_defaults(command=_run)

    checker = commands.add_parser("check", help="check settings and Exporter manifests")
    checker.add_argument(
        "paths",
        type=Path,
        nargs="*",
        metavar="PATH",
        help="settings, a manifest, a directory of them",
    )
    add_kubernetes_arguments(checker)
    secrets = checker.add_mutually_exclusive_group()
    secrets.add_argument("--secrets", type=Path, metavar="DIR", help="mounted secrets")
    secrets.add_argument(
        "--without-secrets", action="store_true", help="accept Exporters whose secrets are not here"
    )
    checker.set_defaults(command=_check)

    explainer = commands.add_parser(
        "explain", help="explain which exporters export a series, why, and as what"
    )
    add_explain_arguments(explainer)
    explainer.set_defaults(command=run_explain)

    _add_live(commands)
    _add_import(commands)
    _add_backup(commands)
    _add_kubeconfig(commands)

    demo = commands.add_parser("demo", help="see the whole relay at work, with nothing else needed")
    add_demo_arguments(demo)
    demo.set_defaults(command=run_demo)

    version = commands.add_parser("version", help="print version, build and Python")
    version.set_defaults(command=_version)
    return parser


def _add_live(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    preview = commands.add_parser(
        "preview",
        help="count the series of a running relay that an exporter takes now",
        description="Of a manifest that is not saved yet, the differences to the running version "
        "of the same name are shown as well. Nothing is changed.",
    )
    add_preview_arguments(preview)
    preview.set_defaults(command=run_preview)
    test = commands.add_parser(
        "test",
        help="send one synthetic point to a sink and tell each step",
        description="Exit status 0: the endpoint took the point; 1: it did not.",
    )
    add_test_arguments(test)
    test.set_defaults(command=run_test)
    tap = commands.add_parser(
        "tap",
        help="show sampled points as a running relay hands them to a sink",
        description="The operator must allow it by admin.tap. Nothing is delayed or changed.",
    )
    add_tap_arguments(tap)
    tap.set_defaults(command=run_tap)
    top = commands.add_parser(
        "top",
        help="show exporters and sinks of a running relay, the worst first",
        description="Refreshed on a terminal until Ctrl-C; printed once elsewhere.",
    )
    add_top_arguments(top)
    top.set_defaults(command=run_top)


def _add_import(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    importer = commands.add_parser(
        "import", help="turn another program's configuration into manifests"
    )
    formats = importer.add_subparsers(required=True, metavar="FORMAT")
    vector = formats.add_parser(
        "vector",
        help="Vector's scrapes of a federation endpoint and its remote-write sinks",
        description="Print the ExportPolicies and Secrets that a Vector configuration stands for. "
        "Exit status 0: policies came out, also where stderr names parts that were not carried "
        "over; 1: none did; 2: a file cannot be read.",
    )
    add_import_arguments(vector)
    vector.set_defaults(command=run_import_vector)


def _add_backup(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    backup = commands.add_parser(
        "backup",
        help="copy the data directory, also while a relay runs on it",
        description="Copy what a relay keeps on disk to a new archive or directory. Nothing that "
        "was acknowledged before is missing from it; what is delivered meanwhile may be in it.",
    )
    add_backup_arguments(backup)
    backup.set_defaults(command=run_backup)
    restore = commands.add_parser(
        "restore",
        help="restore a backup into an empty data directory",
        description="Restore a backup and verify its checksums. A directory that is not empty or "
        "in use is refused and not touched.",
    )
    add_restore_arguments(restore)
    restore.set_defaults(command=run_restore)


def _add_kubeconfig(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    kubeconfig = commands.add_parser(
        "kubeconfig",
        help="print a kubeconfig for the relay's own API",
        description="The certificate of the relay's authority is in it, which the relay makes when "
        "it starts with api in its settings.",
    )
    add_kubeconfig_arguments(kubeconfig)
    kubeconfig.set_defaults(command=run_kubeconfig)


def _run(arguments: argparse.Namespace) -> NoReturn:
    overrides = {
        name: getattr(arguments, name)
        for name in (
            "listen",
            "admin_listen",
            "exporters",
            "secrets",
            "data",
            "log_format",
            "log_level",
        )
        if getattr(arguments, name) is not None
    }
    try:
        settings = load_settings(arguments.config, overrides)
    except ConfigError as error:
        layout: log_setup.Format = "json" if arguments.log_format == "json" else "text"
        log_setup.configure(layout, arguments.log_level or "info")
        log_setup.report_fatal(error.faults, layout)
        _leave(EXIT_USAGE if all(map(is_of_flag, error.faults)) else EXIT_FAULTY)
    log_setup.configure(settings.log.format, settings.log.level)
    try:
        given_up = run_on_uvloop(serve(settings))
    except ConfigError:  # each fault was reported
        status = EXIT_FAULTY
    else:
        status = EXIT_FAULTY if given_up else EXIT_GOOD
    # All data is delivered or recorded by now. The interpreter would still wait for threads in name
    # lookups, without a bound.
    _leave(status)


async def serve(settings: Settings) -> int:
    """Run a relay until SIGTERM or SIGINT; SIGHUP reloads the exporters.

    Return the number of accepted points that were lost because the disk did not take them.
    """
    relay = Relay(settings)
    stop = asyncio.Event()
    reload = asyncio.Event()
    loop = asyncio.get_running_loop()
    first_signal_at = 0.0

    def ask_to_stop(number: signal.Signals) -> None:
        nonlocal first_signal_at
        if not stop.is_set():
            first_signal_at = loop.time()
        elif loop.time() - first_signal_at >= SIGNAL_REPEAT_S:
            _log.warning(
                "asked to stop twice: leaving without draining",
                extra={"points": relay.undelivered()},
            )
            _leave(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop, number)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    await relay.start()
    reloader = loop.create_task(_reload_when_asked(relay, reload))
    try:
        await stop.wait()
    finally:
        reloader.cancel()
        await relay.stop()
    return relay.given_up if settings.storage is not None else 0


async def _reload_when_asked(relay: Relay, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        try:
            await relay.reload()
        except Exception:
            # A bug: keep running, and keep accepting reloads.
            _log.exception("cannot reload")


def _leave(status: int) -> NoReturn:
    """End the process without waiting for threads."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _check(arguments: argparse.Namespace) -> int:
    if bool(arguments.paths) == wants_kubernetes(arguments):
        raise UsageError("PATH", "or --kubernetes is required, one of them")
    if wants_kubernetes(arguments):
        found = fetch_all(access_of(arguments), need_sinks=True)
        result = check_objects(found.exporters, found.faults)
    else:
        result = check(
            arguments.paths, secrets=arguments.secrets, need_secrets=not arguments.without_secrets
        )
    for line in result.lines:
        print(line)
    return EXIT_FAULTY if result.faults else EXIT_GOOD


def _version(_arguments: argparse.Namespace) -> int:
    print(f"relay {__version__} (compiled, Python {platform.python_version()})")
    return EXIT_GOOD
