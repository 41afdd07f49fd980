"""``python -m bench.goals``: measure every goal beside its peer, in one run, as ratios."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench import newest
from bench.goals.measuring import DEBIAN, NEWEST, RELAY, Measuring
from bench.goals.picture import draw_goals
from bench.goals.rows import ONCE, PARTS, ROWS
from bench.goals.table import table, write
from bench.harness import Datasets
from bench.peer import load_peer
from bench.process import BenchError, raise_file_limit
from bench.report import table_head
from relay.runtime import malloc

ROOT = Path(__file__).parents[2]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.goals",
        description=__doc__,
        epilog="Writes goals.md, goals.json and goals.png, anew after each pair. Exit 0: every run "
        "gave a value; 1: some did not; 2: wrong use, or nothing could be run.",
    )
    parser.add_argument(
        "--relay-command",
        default="",
        metavar="PATH",
        help="an installed relay, from a wheel for example (default: this checkout)",
    )
    parser.add_argument("--pairs", type=_count, default=7, help="default: 7")
    parser.add_argument(
        "--rows",
        default=",".join(PARTS),
        help=f"of {', '.join(PARTS)}, with commas (default: all)",
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of sending (default: 5)")
    parser.add_argument("--output", type=Path, help="directory (default: in bench/results)")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Measure the parts of the command line and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    parts = options.rows.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"there is no row {part!r}; choose from {', '.join(PARTS)}")
    # SIGTERM must unwind the stack, which stops the child processes.
    signal.signal(signal.SIGTERM, _interrupt)
    raise_file_limit()
    malloc.configure_malloc()  # as the relay does: the floor is measured in this process
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    output = options.output or ROOT / "bench" / "results" / f"goals-{stamp}"
    try:
        with tempfile.TemporaryDirectory(prefix="relay-goals-") as scratch:
            root = Path(scratch)
            relay = options.relay_command or str(_of_checkout(root))
            run = Measuring(relay, options.seconds, root, Datasets(root))
            versions = _versions(relay, parts)
            print(table_head(), flush=True)
            for pair in range(options.pairs):
                for part in parts:
                    if not pair or part not in ONCE:
                        run.measure(part, pair)
                        write(output, run.figures, versions, run.measurements, options.seconds)
    except BenchError as error:
        print(f"goals: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print("\n".join(["", *table(run.figures, versions, options.seconds)]))
    if run.figures.costs_us:
        draw_goals(output / "goals.png", run.figures)
    print(f"\nresults: {output}")
    missing = [key for key, row in ROWS.items() if row.part in parts and key not in _found(run)]
    return 1 if run.figures.faults or missing else 0


def _found(run: Measuring) -> set[str]:
    return set(run.figures.values)


def _versions(relay: str, parts: list[str]) -> dict[str, str]:
    """Return the versions of everything that takes part. Raise BenchError if a peer is missing."""
    versions = {RELAY: load_peer(RELAY).version_text(relay)}
    for peer, rows in (
        (NEWEST, {"scrape", "scrape-platform", "filter"}),
        (DEBIAN, {"worst"}),
    ):
        if not rows.isdisjoint(parts):
            versions[peer] = load_peer(peer).version_text()
    if not {"logs", "traces"}.isdisjoint(parts):
        if not newest.is_built("otelcol"):
            raise BenchError("the Collector is not built: make peers")
        versions["collector"] = newest.RECIPES["otelcol"].version
    return versions


def _of_checkout(root: Path) -> Path:
    """Write a command that runs this checkout, whatever its environment."""
    command = root / "relay-of-checkout"
    start = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -P -m relay"
    command.write_text(f'#!/bin/sh\n{start} "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return command


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
