"""``python -m bench.gate``: fail if an installed relay costs more CPU per sample than this one.

Both run in turn for a few seconds each; the median of the pairs' ratios decides.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench.harness import Datasets, Plan, run_plan
from bench.peer import load_peer
from bench.process import BenchError, raise_file_limit
from bench.ratios import CPU_EACH, Comparison, compare_peers
from bench.report import table_head, table_row
from bench.workload import EXPORT, WORKLOADS

ROOT = Path(__file__).parent.parent
INSTALLED, CHECKOUT = "relay-installed", "relay"
_IMPORT_TIMEOUT_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gate",
        description=__doc__,
        epilog="Exit 0: as wanted; 1: too much CPU, or a run is void; 2: nothing could be run.",
    )
    parser.add_argument(
        "--installed", type=Path, required=True, metavar="PATH", help="the relay command"
    )
    parser.add_argument("--pairs", type=int, default=7, help="default: 7")
    parser.add_argument("--max-ratio", type=float, default=1.15, help="default: 1.15")
    parser.add_argument("--seconds", type=float, default=3.0, help="of sending (default: 3)")
    parser.add_argument("--workload", choices=WORKLOADS, default=EXPORT, help="default: export")
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        parser.error("--pairs must be at least 1")
    # SIGTERM must unwind the stack, which stops the child processes.
    signal.signal(signal.SIGTERM, _interrupt)
    raise_file_limit()
    try:
        relay = str(options.installed.absolute())
        place = installed_at(options.installed)
        for name in (INSTALLED, CHECKOUT):
            print(f"{name}: {load_peer(name).version_text(relay)}")
        print(f"{INSTALLED} is {place}\n{table_head()}", flush=True)
        plan = Plan(
            workload=WORKLOADS[options.workload],
            peers=(INSTALLED, CHECKOUT),
            runs=options.pairs,
            seconds=options.seconds,
            with_export=False,
            relay=relay,
        )
        with tempfile.TemporaryDirectory(prefix="relay-gate-") as scratch:
            root = Path(scratch)
            runs = run_plan(plan, root, Datasets(root), lambda m: print(table_row(m), flush=True))
    except BenchError as error:
        print(f"gate: {error}", file=sys.stderr)
        return 2
    void = sum(bool(run.void) for run in runs)
    return verdict(next(compare_peers(runs, (CPU_EACH,)), None), void, options.max_ratio)


def verdict(found: Comparison | None, void: int, ratio_max: float) -> int:
    """Print whether the median is within its bound, and return the exit code."""
    if void or found is None:
        print(f"gate: FAILED: {void} void runs", file=sys.stderr)
        return 1
    print(found.line())
    if found.median > ratio_max:
        print(
            f"gate: FAILED: the installed relay takes {found.median:.3f} times the CPU per sample "
            f"of the checkout, where {ratio_max:g} is the most",
            file=sys.stderr,
        )
        return 1
    print(f"gate: passed: {found.median:.3f} times, where {ratio_max:g} is the most")
    return 0


def installed_at(command: Path) -> Path:
    """Return the package's path according to the interpreter beside a relay command.

    Raise BenchError if there is none, or if it is this checkout.
    """
    # pipx and uv link into the environment.
    python = command.resolve().parent / "python"
    if not os.access(command, os.X_OK) or not os.access(python, os.X_OK):
        raise BenchError(f"{command} is no relay command of a virtual environment")
    done = subprocess.run(
        [python, "-P", "-c", "import relay; print(relay.__file__)"],
        cwd="/",
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=_IMPORT_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{python} cannot import relay: {done.stderr.strip()[-500:]}")
    place = Path(done.stdout.strip()).parent.resolve()
    if place == ROOT / "relay":
        raise BenchError(f"{command} runs this checkout, not an installed relay")
    return place


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
