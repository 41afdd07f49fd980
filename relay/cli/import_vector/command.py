"""Implement ``relay import vector``.

Manifests go to stdout or to files, notes and faults to stderr. Exit status: 0 policies came out,
also with notes; 1 none did, they have faults, or they could not be written; 2 a file cannot be
read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from relay.cli.import_vector.components import Note
from relay.cli.import_vector.convert import import_vector
from relay.cli.import_vector.manifest_files import (
    rendered_with_projects,
    write_manifests,
    yaml_text,
)
from relay.cli.import_vector.vector_file import FILE_BYTES_MAX, VectorConfig
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from relay.config.schema.checks import dns_label_problem
from relay.config.yaml.document import read_bounded
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.excerpt import printable

EXIT_UNREADABLE: Final = 2
STDIN: Final = Path("-")


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that :func:`run_import_vector` reads."""
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="a configuration (JSON, YAML, TOML), or Secrets that hold some; - reads stdin",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write DIR/PROJECT/NAMESPACE-NAME.yaml instead of printing the manifests",
    )
    parser.add_argument(
        "--force", action="store_true", help="with --out: replace files that differ"
    )
    parser.add_argument(
        "--namespace",
        type=_namespace,
        default="default",
        metavar="N",
        help="of components whose ids name none (default: %(default)s)",
    )


def run_import_vector(arguments: argparse.Namespace) -> int:
    """Convert, print or write, and return the exit status."""
    config = VectorConfig()
    try:
        for path in arguments.files:
            config.add(_text(path), "stdin" if path == STDIN else str(path))
    except ConfigError as error:
        _say(f"relay: {error.faults[0].summary}")
        return EXIT_UNREADABLE
    done = import_vector(config.sections, namespace=arguments.namespace)
    _report((*config.notes, *done.notes))
    if not done.policies:
        _say("relay: no ExportPolicy came out")
        return 1
    if arguments.out is not None:
        written = write_manifests(done.policies, arguments.out, force=arguments.force)
        print(settings_lines(written), end="")
        return _check(written)
    print(rendered_with_projects(done.policies), end="")
    with TemporaryDirectory(prefix="relay-import-") as scratch:
        return _check(write_manifests(done.policies, Path(scratch), force=True), hidden=scratch)


def _check(written: Iterable[ExporterPath], *, hidden: str = "") -> int:
    """Say what ``relay check`` says of files, without the folder ``hidden``; return the status."""
    paths = tuple(written)
    loaded = load_exporters(paths, tenancy=any(one.project for one in paths))
    for word, found in (("fault", loaded.faults), ("warning", loaded.warnings)):
        for one in found:
            text = str(one).replace(f"{hidden}/", "") if hidden else str(one)
            print(printable(f"{word:<8} {text}"), file=sys.stderr)
    return 1 if loaded.faults else 0


def settings_lines(paths: Iterable[ExporterPath]) -> str:
    """Return the setting ``exporters`` for the files that were written."""
    entries = [
        {"path": str(one.path.absolute())} | ({"project": one.project} if one.project else {})
        for one in paths
    ]
    return yaml_text({"exporters": entries})


def _text(path: Path) -> str:
    """Return a file's text; raise ConfigError if it is too large, no file or no UTF-8."""
    file = "stdin" if path == STDIN else str(path)
    try:
        if path == STDIN:
            content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            content = read_bounded(path, bytes_max=FILE_BYTES_MAX)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text: byte {error.start} does not belong"
        raise ConfigError([Fault("", message, file)]) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError([Fault("", f"cannot be read: {reason}", file)]) from error
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError([Fault("", f"cannot be read: larger than {FILE_BYTES_MAX} bytes", file)])
    return text


def _report(notes: Iterable[Note]) -> None:
    for note in notes:
        _say(f"not carried over  {note}")


def _say(line: str) -> None:
    print(printable(line.replace("\n", " ")), file=sys.stderr)


def _namespace(text: str) -> str:
    if problem := dns_label_problem(text):
        raise argparse.ArgumentTypeError(problem)
    return text
