"""Parse the command line: ``relay COMMAND``.

Exit status: 0 success, 1 faults found or points lost, 2 wrong usage.

The modules of a command are imported for that command alone: those of all others take 15 MiB, which
a relay would keep for as long as it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from relay import __version__
from relay.cli.usage import UsageError
from relay.config.settings.settings import Settings, is_of_flag, load_settings
from relay.runtime import log_setup, malloc
from relay.runtime.errors import ConfigError
from relay.runtime.event_loop import run_on_uvloop
from relay.runtime.excerpt import printable

if TYPE_CHECKING:
    from relay.app import Relay

EXIT_GOOD, EXIT_FAULTY, EXIT_USAGE = 0, 1, 2

SIGNAL_REPEAT_S = 0.2
"""Time in which a second signal counts as a repetition, because supervisors send several; s."""

_log = logging.getLogger("relay.cli")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; argparse exits with 2 on wrong usage."""
    given = sys.argv[1:] if argv is None else argv
    arguments = _parser(given[0] if given else "").parse_args(given)
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


class _Command(NamedTuple):
    """A command: what it does in a line, its arguments, and further texts of its help."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    description: str | None = None
    epilog: str | None = None


def _parser(wanted: str) -> argparse.ArgumentParser:
    """Return the parser; of its commands only the wanted one has arguments."""
    parser = argparse.ArgumentParser(
        prog="relay", description="Remote write and OTLP in, customers' endpoints out."
    )
    parser.add_argument("--version", action="version", version=f"relay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, one in COMMANDS.items():
        command = commands.add_parser(
            name, help=one.summary, description=one.description, epilog=one.epilog
        )
        if name == wanted:
            one.add_arguments(command)
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("--config", type=Path, metavar="FILE", help="settings (relay.yaml)")
    run.add_argument("--listen", metavar="HOST:PORT", help="remote write and OTLP in")
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


def _add_check(checker: argparse.ArgumentParser) -> None:
    from relay.cli.live.kubernetes_arguments import add_kubernetes_arguments

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


def _add_explain(explainer: argparse.ArgumentParser) -> None:
    from relay.cli.explain import add_explain_arguments, run_explain

    add_explain_arguments(explainer)
    explainer.set_defaults(command=run_explain)


def _add_preview(preview: argparse.ArgumentParser) -> None:
    from relay.cli.live.preview import add_preview_arguments, run_preview

    add_preview_arguments(preview)
    preview.set_defaults(command=run_preview)


def _add_test(test: argparse.ArgumentParser) -> None:
    from relay.cli.live.test import add_test_arguments, run_test

    add_test_arguments(test)
    test.set_defaults(command=run_test)


def _add_tap(tap: argparse.ArgumentParser) -> None:
    from relay.cli.live.tap import add_tap_arguments, run_tap

    add_tap_arguments(tap)
    tap.set_defaults(command=run_tap)


def _add_top(top: argparse.ArgumentParser) -> None:
    from relay.cli.live.top import add_top_arguments, run_top

    add_top_arguments(top)
    top.set_defaults(command=run_top)


def _add_import(importer: argparse.ArgumentParser) -> None:
    from relay.cli.import_vector.command import add_import_arguments, run_import_vector

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


def _add_backup(backup: argparse.ArgumentParser) -> None:
    from relay.cli.backup import add_backup_arguments, run_backup

    add_backup_arguments(backup)
    backup.set_defaults(command=run_backup)


def _add_restore(restore: argparse.ArgumentParser) -> None:
    from relay.cli.backup import add_restore_arguments, run_restore

    add_restore_arguments(restore)
    restore.set_defaults(command=run_restore)


def _add_kubeconfig(kubeconfig: argparse.ArgumentParser) -> None:
    from relay.cli.kubeconfig import add_kubeconfig_arguments, run_kubeconfig

    add_kubeconfig_arguments(kubeconfig)
    kubeconfig.set_defaults(command=run_kubeconfig)


def _add_demo(demo: argparse.ArgumentParser) -> None:
    from relay.cli.demo.command import add_demo_arguments, run_demo

    add_demo_arguments(demo)
    demo.set_defaults(command=run_demo)


def _add_version(version: argparse.ArgumentParser) -> None:
    version.set_defaults(command=_version)


COMMANDS: Final[Mapping[str, _Command]] = {
    "run": _Command(
        "run the relay until SIGTERM or SIGINT",
        _add_run,
        epilog="Every flag replaces its setting. Changed manifests are taken over by "
        "themselves, or at once on SIGHUP; changed settings need a restart.",
    ),
    "check": _Command("check settings and Exporter manifests", _add_check),
    "explain": _Command(
        "explain which exporters take a series, log record or span, why, and as what", _add_explain
    ),
    "preview": _Command(
        "count the series, log records and spans of a running relay that an exporter takes now",
        _add_preview,
        description="Of a manifest that is not saved yet, the differences to the running "
        "version of the same name are shown as well. Nothing is changed.",
    ),
    "test": _Command(
        "send one synthetic point, log record or span to a sink and tell each step",
        _add_test,
        description="Exit status 0: the endpoint took it; 1: it did not.",
    ),
    "tap": _Command(
        "show sampled points, log records or spans as a running relay hands them to a sink",
        _add_tap,
        description="The operator must allow it by admin.tap. Nothing is delayed or changed.",
    ),
    "top": _Command(
        "show exporters and sinks of a running relay, the worst first",
        _add_top,
        description="Refreshed on a terminal until Ctrl-C; printed once elsewhere.",
    ),
    "import": _Command("turn another program's configuration into manifests", _add_import),
    "backup": _Command(
        "copy the data directory, also while a relay runs on it",
        _add_backup,
        description="Copy what a relay keeps on disk to a new archive or directory. Nothing "
        "that was acknowledged before is missing from it; what is delivered meanwhile may be "
        "in it.",
    ),
    "restore": _Command(
        "restore a backup into an empty data directory",
        _add_restore,
        description="Restore a backup and verify its checksums. A directory that is not "
        "empty or in use is refused and not touched.",
    ),
    "kubeconfig": _Command(
        "print a kubeconfig for the relay's own API",
        _add_kubeconfig,
        description="The certificate of the relay's authority is in it, which the relay "
        "makes when it starts with api in its settings.",
    ),
    "demo": _Command("see the whole relay at work, with nothing else needed", _add_demo),
    "version": _Command("print version, build and Python", _add_version),
}


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
    malloc.share_heap()
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
    from relay.app import Relay

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
    from relay.cli.check import check, check_objects
    from relay.cli.live.kubernetes_arguments import access_of, wants_kubernetes

    if bool(arguments.paths) == wants_kubernetes(arguments):
        raise UsageError("PATH", "or --kubernetes is required, one of them")
    if wants_kubernetes(arguments):
        from relay.cli.live.kubernetes import fetch_all

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
