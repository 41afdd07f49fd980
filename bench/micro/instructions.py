"""Count the engine's instructions per sample: ``python -m bench.micro.instructions``.

Callgrind counts on fixed bodies, so a busy machine gives the same figures to the fourth digit. With
``--beside``, other built checkouts are counted too, and the last column is this one's excess over
the last of them. Rows are workloads of the bench:

    scrape, scrape-platform, worst, export, filter, fanout, histograms, v2    known series
    cold, cold-scrape, cold-platform                                          new series only
    leaving, left      new series after their wait for metadata: its end, and the sample after that

Each row is the cost of ingesting a sample; ``+ encode`` is that of encoding a point, without
compression. Needs valgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.dataset import Shape, write_dataset
from bench.micro.bodies import START_MS, bodies_of
from bench.scrape import exposed

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("instructions_child.py")
MARK = "sched_get_priority_max"
"""A libc function that nothing else calls: callgrind dumps its counters at each call."""

COPIES = ("memcpy", "__memcpy", "memmove", "__memmove")

WARM_ROUNDS, MEASURED_ROUNDS = 4, 2
"""Samples get cheaper until the fourth round, as the engine learns their order."""

_SCRAPE: Mapping[str, Any] = {"content": "scrape", "label_set": "exposed"}
_WANTED = (
    '{service_name="networking.datumapis.com",resource_kind="Gateway",__name__=~"network_bytes_.*"}'
)


@dataclass(frozen=True, slots=True)
class Case:
    """One case: the data sent, and its exporter's query."""

    shape: Mapping[str, Any] = field(default_factory=dict)
    query: str = "{}"
    sinks: int = 1
    is_cold: bool = False
    part: str = "ingest"
    """The work that is counted: ``ingest``; of series that wait for metadata ``leaving`` or
    ``left``."""


CASES: Mapping[str, Case] = {
    "scrape": Case(_SCRAPE),
    "scrape-platform": Case({**_SCRAPE, "label_set": "platform"}),
    "worst": Case({**_SCRAPE, "label_set": "platform", "scattered": True}),
    "export": Case(),
    "filter": Case(query=_WANTED),
    "fanout": Case(sinks=5),
    "histograms": Case({"content": "histograms", "series_per_request": 2_002}),
    "v2": Case({"protocol": "2.0"}),
    "cold": Case(is_cold=True),
    "cold-scrape": Case(_SCRAPE, is_cold=True),
    "cold-platform": Case({**_SCRAPE, "label_set": "platform"}, is_cold=True),
    "leaving": Case({**_SCRAPE, "label_set": "platform"}, part="leaving"),
    "left": Case({**_SCRAPE, "label_set": "platform"}, part="left"),
}


class CountError(Exception):
    """Report that nothing could be counted; the text has the reason."""


def prepare(case: Case, series: int, directory: Path) -> dict[str, Any]:
    """Return the child's input for a case: bodies before and during the count."""
    whole = {"histograms": 14, "scrape": len(exposed())}.get(case.shape.get("content", ""), 1)
    count = series - series % whole
    rounds = WARM_ROUNDS + MEASURED_ROUNDS
    if case.is_cold:
        rounds = 1
    elif case.part != "ingest":
        rounds = 2
    dataset = write_dataset(directory, Shape(START_MS, rounds, count, **case.shape))
    bodies = bodies_of(dataset)
    samples = [request.samples for request in dataset.requests]
    if case.is_cold:
        # The first half fills tables and interns names.
        (only,) = bodies
        half = len(only) // 2
        warm, measured, measured_samples = [only[:half]], [only[half:]], sum(samples[half:])
    elif case.part != "ingest":
        # The first round waits: a family does so once.
        warm, measured, measured_samples = bodies[:1], bodies[1:], count
    else:
        warm, measured = bodies[:WARM_ROUNDS], bodies[WARM_ROUNDS:]
        measured_samples = MEASURED_ROUNDS * count
    return {
        "query": case.query,
        "sinks": case.sinks,
        "part": case.part,
        "protocol": f"remote_write_v{dataset.shape.protocol[0]}",
        "warm": warm,
        "measured": measured,
        "samples": measured_samples,
    }


def count(checkout: Path, bodies: Path, names: Sequence[str]) -> dict[str, float]:
    """Return the instructions per sample, and per encoded point, of each case. Raise CountError."""
    with tempfile.TemporaryDirectory(prefix="relay-count-") as scratch:
        out = Path(scratch) / "out"
        command = [
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"),
            *(f"--dump-before={MARK}", "--compress-strings=no", "--quiet", "--"),
            *(sys.executable, "-P", str(CHILD), str(bodies), *names),
        ]
        done = subprocess.run(
            command,
            cwd="/",
            # Only the checkout may differ between runs.
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(checkout.resolve()),
                "PYTHONHASHSEED": "0",
                "PYTHONDONTWRITEBYTECODE": "1",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CountError(f"{checkout}: {(done.stderr or done.stdout).strip()[-2000:]}")
        parts: list[dict[str, Any]] = json.loads(done.stdout)
        # Dump number n has what was done between marks n - 1 and n.
        dumps = [
            total_of(out.with_name(f"out.{number}")) for number in range(1, 4 * len(names) + 1)
        ]
    found = {}
    for part, (_, ingest, _, encode) in zip(parts, _fours(dumps), strict=True):
        assert Path(part["package"]).is_relative_to(checkout.resolve()), "that checkout's relay"
        found[part["name"]] = ingest / part["samples"]
        found[f"{part['name']} + encode"] = encode / part["points"]
    return found


def _fours(dumps: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(dumps), 4):
        yield dumps[at : at + 4]


def total_of(dump: Path) -> int:
    """Sum up the instructions of a dump, without the copies of ``realloc``.

    Whether an array can grow in place depends on all earlier allocations.
    """
    total, copied = -1, 0
    caller = callee = ""
    lines = iter(dump.read_text(encoding="utf-8", errors="replace").splitlines())
    for line in lines:
        if line.startswith(("summary:", "totals:")):
            total = int(line.split()[1])
        elif line.startswith("fn="):
            caller = line[3:]
        elif line.startswith("cfn="):
            callee = line[4:]
        elif line.startswith("calls="):
            spent = next(lines).split()  # call site, and instructions of the calls
            if "realloc" in caller and callee.startswith(COPIES):
                copied += int(spent[1])
    if total < 0:
        raise CountError(f"{dump} has no total")
    return total - copied


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print; return 1 if a checkout cannot be counted."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro.instructions")
    parser.add_argument("--relay", type=Path, default=ROOT, help="the checkout (default: this one)")
    parser.add_argument(
        "--beside", type=Path, action="append", default=[], help="another one, built; repeatable"
    )
    parser.add_argument("--series", type=int, default=10_000, help="default: 10,000")
    parser.add_argument("--cases", default=",".join(CASES), help="with commas; default: all")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    names = options.cases.split(",")
    for name in names:
        if name not in CASES:
            parser.error(f"there is no case {name!r}; choose from {', '.join(CASES)}")
    if shutil.which("valgrind") is None:
        print("instructions: valgrind is not installed: apt-get install valgrind", file=sys.stderr)
        return 1
    columns: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="relay-count-") as scratch:
        bodies = Path(scratch) / "bodies"
        bodies.mkdir()
        for name in names:
            place = Path(scratch) / name
            place.mkdir()
            prepared = prepare(CASES[name], options.series, place)
            (bodies / f"{name}.pickle").write_bytes(pickle.dumps(prepared))
        for checkout in (options.relay, *options.beside):
            try:
                columns[str(checkout)] = count(checkout, bodies, names)
            except CountError as error:
                print(f"instructions: {error}", file=sys.stderr)
                return 1
    print("\n".join(table(columns)))
    if options.output:
        options.output.write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")
    return 0


def table(columns: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield a line for each figure, with the checkouts side by side."""
    first, *others = columns.values()
    heads = [Path(checkout).resolve().name for checkout in columns]
    yield (
        f"{'instructions a sample':28}"
        + "".join(f"{head:>14}" for head in heads)
        + (f"{'more':>9}" if others else "")
    )
    for name in first:
        cells = [column[name] for column in columns.values()]
        more = f"{cells[0] / cells[-1] - 1:+9.1%}" if others else ""
        yield f"{name:28}" + "".join(f"{cell:14,.1f}" for cell in cells) + more


if __name__ == "__main__":
    sys.exit(main())
