"""Implement ``relay backup`` and ``relay restore``."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from pathlib import Path
from typing import Final

from relay.config.settings.settings import load_settings
from relay.control.durability.backup import back_up
from relay.control.durability.backup_archive import describe
from relay.control.durability.restore import restore
from relay.runtime.errors import BackupError, ConfigError, Fault
from relay.runtime.excerpt import printable

_STREAM: Final = "-"


def add_backup_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``relay backup``."""
    _add_data(parser)
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a new archive (NAME.tar), a new directory, or - for an archive on standard output",
    )


def add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``relay restore``."""
    _add_data(parser)
    parser.add_argument(
        "source", metavar="SOURCE", help="what backup wrote, or - for an archive on standard input"
    )
    parser.add_argument(
        "--moved",
        action="store_true",
        help="no relay has run on the data since the backup: delta streams continue",
    )


def run_backup(arguments: argparse.Namespace) -> int:
    """Back up a data directory; return the exit status."""
    data = _data_directory(arguments)
    is_stream = arguments.target == _STREAM
    try:
        report = back_up(
            data, sys.stdout.buffer if is_stream else Path(arguments.target), now=time.time()
        )
        if is_stream:
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except BackupError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(describe(error))
    out = sys.stderr if is_stream else sys.stdout
    print(f"backed up {data}: {report.files} files, {report.bytes} bytes", file=out)
    if report.torn_bytes:
        print(f"left out {report.torn_bytes} bytes of records that were being written", file=out)
    if report.damaged_bytes:
        print(
            f"relay: {report.damaged_bytes} bytes of {data} are damaged; they are in the backup "
            "as they are, and are skipped and counted when they are read",
            file=sys.stderr,
        )
    return 0


def run_restore(arguments: argparse.Namespace) -> int:
    """Restore a backup; return the exit status."""
    data = _data_directory(arguments)
    source = sys.stdin.buffer if arguments.source == _STREAM else Path(arguments.source)
    try:
        report = restore(source, data, moved=arguments.moved)
    except BackupError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(describe(error))
    made = dt.datetime.fromtimestamp(report.head.created_at, dt.UTC)
    print(
        f"restored {data}: {report.files} files, {report.bytes} bytes, backed up "
        f"{made:%Y-%m-%dT%H:%M:%SZ} by relay {report.head.relay}"
    )
    if report.deltas_left_out:
        print(
            "delta streams restart; if no relay has run on the data since the backup, restore "
            "with --moved to continue them"
        )
    return 0


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "--config", type=Path, metavar="FILE", help="settings (relay.yaml): their storage.path"
    )
    data.add_argument("--data", type=Path, metavar="DIR", help="the data directory")


def _data_directory(arguments: argparse.Namespace) -> Path:
    """Return the data directory; raises ConfigError if the settings have none."""
    if arguments.data is not None:
        return Path(arguments.data)
    storage = load_settings(arguments.config, {}).storage
    if storage is None:
        fault = Fault("storage.path", "the relay keeps nothing on disk", str(arguments.config))
        raise ConfigError([fault])
    return storage.path


def _fail(message: str) -> int:
    print(printable(f"relay: {message}"), file=sys.stderr)
    return 1
