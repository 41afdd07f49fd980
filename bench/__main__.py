"""``python -m bench``: compare the relay with its peers on this machine, over loopback."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench.harness import Datasets, Plan, run_plan
from bench.labels import LabelSet
from bench.measurement import Measurement
from bench.peer import load_peer
from bench.plot import draw
from bench.process import BenchError, raise_file_limit
from bench.ratios import Comparison, compare
from bench.report import table_head, table_row, write_results
from bench.workload import EXPORT, SCRAPE, WORKLOADS

SHORT_WITH_PEERS = (SCRAPE, "scrape-platform", EXPORT)
SHORT_ALONE = ("worst", "filter", "fanout", "tenants", "histograms", "cold")
SHORT_WITH_PEERS_S, SHORT_ALONE_S = 4.0, 2.0
"""Seconds of sending. Longer for comparisons, so that start-up effects weigh less."""

LABEL_SETS: dict[str, LabelSet] = {"default": "platform", "small": "small", "large": "large"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="Exit 0: every run counts; 1: a run is void; 2: wrong use, or nothing could be run.",
    )
    parser.add_argument(
        "--workload",
        default=SCRAPE,
        help=f"one or more of {', '.join(WORKLOADS)}, with commas; or all (default: scrape)",
    )
    parser.add_argument(
        "--peers",
        default="relay,vmagent",
        help="names in bench/peers, with commas; the first is compared with each other one, and "
        "one name twice shows how far equal runs differ (default: relay,vmagent)",
    )
    parser.add_argument(
        "--relay-command",
        default="",
        metavar="PATH",
        help="an installed relay, which the peer relay-installed runs",
    )
    parser.add_argument("--runs", type=_positive_int, default=3, help="pairs of runs (default: 3)")
    parser.add_argument("--seconds", type=_positive, default=5.0, help="of sending (default: 5)")
    parser.add_argument("--connections", type=_positive_int, default=4, help="default: 4")
    parser.add_argument("--rate", type=_positive, help="samples a second (default: unlimited)")
    parser.add_argument(
        "--load",
        type=_share,
        help="find each peer's maximum, then run at this share of it: --load 0.8",
    )
    parser.add_argument(
        "--processes",
        type=_positive_int,
        default=1,
        help="share the series among that many of each peer, and run one beside (default: 1)",
    )
    parser.add_argument("--series", type=_positive_int, help="default: the workload's")
    parser.add_argument(
        "--shape",
        choices=LABEL_SETS,
        default="default",
        help="labels of a series: 13 of 440 bytes, 3 of 60 bytes, or 40 of 2 KB; of scrapes, their "
        "own",
    )
    parser.add_argument(
        "--alone", action="store_true", help="do not run export beside the other workloads"
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="what takes under five minutes: scrapes and export with all peers in three pairs, the "
        "main other workloads with the first peer in one; --runs, --seconds do not count",
    )
    parser.add_argument("--output", type=Path, help="JSON file (default: in bench/results)")
    parser.add_argument("--plot", type=Path, help="PNG file (default: beside the JSON file)")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _positive_int(text: str) -> int:
    return int(_positive(str(int(text))))


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _plans(options: argparse.Namespace, names: Sequence[str]) -> Iterator[Plan]:
    """Yield the plans of the command line, one per workload."""
    peers = options.peers.split(",")
    plan = Plan(
        workload=WORKLOADS[EXPORT],
        peers=peers,
        runs=options.runs,
        seconds=options.seconds,
        connections=options.connections,
        rate=options.rate,
        load=options.load,
        series=options.series,
        label_set=LABEL_SETS[options.shape],
        with_export=not options.alone,
        processes=options.processes,
        relay=options.relay_command,
    )
    if not options.short:
        for name in names:
            yield replace(plan, workload=WORKLOADS[name])
        return
    for name in SHORT_WITH_PEERS:
        yield replace(plan, workload=WORKLOADS[name], runs=3, seconds=SHORT_WITH_PEERS_S)
    for name in SHORT_ALONE:
        yield replace(
            plan, workload=WORKLOADS[name], peers=peers[:1], runs=1, seconds=SHORT_ALONE_S
        )


def _able(plan: Plan, left_out: list[str]) -> Plan | None:
    """Return the plan with the peers that support it, None if there are none; print the others."""
    name = plan.workload.name
    if plan.label_set not in plan.workload.label_sets:
        left_out.append(f"{name}: left out: series of this shape do not have the labels")
        print(f"\n{left_out[-1]}", flush=True)
        return None
    reasons = {peer: load_peer(peer).why_not(name) for peer in plan.peers}
    for peer, why in reasons.items():
        if why:
            left_out.append(f"{name}: {peer} is left out: {why}")
            print(f"\n{left_out[-1]}", flush=True)
    peers = [peer for peer in plan.peers if not reasons[peer]]
    return replace(plan, peers=peers) if peers else None


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks of the command line and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    names = list(WORKLOADS) if options.workload == "all" else options.workload.split(",")
    for name in names:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name!r}; choose from {', '.join(WORKLOADS)}")
    if "relay-installed" in options.peers.split(",") and not options.relay_command:
        parser.error("the peer relay-installed needs --relay-command")
    if options.rate and options.load:
        parser.error("--load chooses the rate itself")
    if options.processes > 1 and (options.rate or options.load):
        parser.error("--processes finds maxima: it goes with neither --rate nor --load")
    # SIGTERM must unwind the stack, which stops the child processes.
    signal.signal(signal.SIGTERM, _interrupt)
    raise_file_limit()
    measurements: list[Measurement] = []
    comparisons: dict[str, list[Comparison]] = {}
    left_out: list[str] = []
    try:
        plans = list(_plans(options, names))
        versions = {
            name: load_peer(name).version_text(options.relay_command)
            for name in dict.fromkeys(options.peers.split(","))
        }
        for name, version in versions.items():
            print(f"{name}: {version}")
        with tempfile.TemporaryDirectory(prefix="relay-bench-") as scratch:
            datasets = Datasets(Path(scratch))
            for given in plans:
                plan = _able(given, left_out)
                if plan is not None:
                    found = _run_and_print(plan, Path(scratch), datasets)
                    measurements += found
                    comparisons[plan.workload.name] = compare(found)
                    print("\n".join(one.line() for one in comparisons[plan.workload.name]))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if not measurements:
        print("bench: no peer can do any of it", file=sys.stderr)
        return 2
    output = options.output or _default_output()
    shown = {key: str(value) for key, value in vars(options).items() if value is not None}
    write_results(output, shown, versions, measurements, comparisons, left_out)
    print(f"\nresults: {output}")
    _plot(options.plot, output, measurements, versions)
    return 1 if any(m.void for m in measurements) else 0


def _run_and_print(plan: Plan, root: Path, datasets: Datasets) -> list[Measurement]:
    print(f"\n{plan.workload.name}: {plan.workload.title}\n{table_head()}", flush=True)
    try:
        return run_plan(plan, root, datasets, lambda m: print(table_row(m), flush=True))
    finally:
        datasets.keep_only(plan, EXPORT)


def _plot(
    asked: Path | None,
    output: Path,
    measurements: Sequence[Measurement],
    versions: dict[str, str],
) -> None:
    """Draw the picture; without matplotlib only if it was explicitly requested."""
    if all(m.void for m in measurements):
        return
    path = asked or output.with_suffix(".png")
    try:
        texts = (" ".join(f"{name}: {text}".split()) for name, text in versions.items())
        draw(path, measurements, "\n".join(texts))
    except ImportError:
        if asked is not None:
            raise
        print("no picture: matplotlib is not installed (make venv)")
    else:
        print(f"picture: {path}")


def _default_output() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path(__file__).parent / "results" / f"{stamp}.json"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
