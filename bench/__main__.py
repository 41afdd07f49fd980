"""``python -m bench``: the relay against its peers on this machine, over loopback."""

from __future__ import annotations

import argparse
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench.harness import Measurement, Plan, run_plan
from bench.peer import load_peer
from bench.process import BenchError
from bench.report import ratio_lines, table_head, table_row, write_results
from bench.workload import WORKLOADS

ROUNDS_PER_S = 12
"""Prepared rounds a second: 600,000 samples; what is faster gets the same requests again."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="Exit 0: every run counts; 1: a run is void; 2: wrong use, or nothing could be run.",
    )
    parser.add_argument(
        "--workload",
        default="export",
        help=f"one or more of {', '.join(WORKLOADS)}, with commas; or all (default: export)",
    )
    parser.add_argument(
        "--peers",
        default="relay,vmagent",
        help="names in bench/peers, with commas; the first is compared with each other one, and "
        "one name twice shows how far equal runs differ (default: relay,vmagent)",
    )
    parser.add_argument("--runs", type=_positive_int, default=3, help="pairs of runs (default: 3)")
    parser.add_argument("--seconds", type=_positive, default=5.0, help="of sending (default: 5)")
    parser.add_argument("--connections", type=_positive_int, default=4, help="default: 4")
    parser.add_argument("--rate", type=_positive, help="samples a second (default: unlimited)")
    parser.add_argument("--series", type=_positive_int, help="default: the workload's")
    parser.add_argument("--output", type=Path, help="JSON file (default: in bench/results)")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _positive_int(text: str) -> int:
    return int(_positive(str(int(text))))


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    names = list(WORKLOADS) if options.workload == "all" else options.workload.split(",")
    for name in names:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name!r}; choose from {', '.join(WORKLOADS)}")
    peers = options.peers.split(",")
    # Processes are stopped as the stack unwinds, which SIGTERM alone would not make happen.
    signal.signal(signal.SIGTERM, _interrupt)
    measurements: list[Measurement] = []
    try:
        versions = {name: load_peer(name).version_text() for name in dict.fromkeys(peers)}
        for name in names:
            plan = Plan(
                workload=WORKLOADS[name],
                peers=peers,
                runs=options.runs,
                seconds=options.seconds,
                rounds=max(5, round(ROUNDS_PER_S * options.seconds)),
                connections=options.connections,
                rate=options.rate,
                series=options.series,
            )
            measurements += _run_and_print(plan)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    output = options.output or _default_output()
    shown = {key: str(value) for key, value in vars(options).items() if value is not None}
    write_results(output, shown, versions, measurements)
    print(f"\nresults: {output}")
    return 1 if any(m.void for m in measurements) else 0


def _run_and_print(plan: Plan) -> list[Measurement]:
    print(f"\n{plan.workload.name}: {plan.workload.title}\n{table_head()}", flush=True)
    measurements = run_plan(plan, lambda m: print(table_row(m), flush=True))
    print("\n".join(ratio_lines(measurements)), flush=True)
    return measurements


def _default_output() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path(__file__).parent / "results" / f"{stamp}.json"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
