"""Measure routing with 10,000 exporters: ``python -m bench.micro.routing [PROJECTS]``.

The router alone: building it, matching a new series of 13 labels, changing and removing one
exporter, and its memory; for the given number of projects, by default 1 and 2,000. Wall clock; for
matching the best of several runs.
"""

from __future__ import annotations

import gc
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from relay.pipeline.routing.router import Router
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.matchers import Selector
from relay.selector.metricsql.parser import parse_query

EXPORTERS = 10_000
PROJECTS = 2_000
SERIES = 20_000
RUNS = 3
CHANGES = 200

Asked = list[tuple[Mapping[str, str], str]]
"""Labels and project of each series."""


def selector_of(number: int) -> Selector:
    """Return one of five kinds in turn: equality, name regex, alternation, negative, ``or``."""
    kinds = (
        f'{{service_name="s{number % 50}",resource_name="r{number}"}}',
        f'{{__name__=~"m{number % 997}_.*",resource_kind="Gateway"}}',
        f'{{resource_name=~"r{number}|r{(number + 1) % EXPORTERS}"}}',
        f'{{service_name="s{number % 50}",a!="x{number}",n="{number}"}}',
        f'{{a="b{number}" or c="d{number}"}}',
    )
    return parse_query(kinds[number % len(kinds)])


def series_of(projects: int, rng: random.Random) -> Asked:
    """Return series that a few exporters' selectors mention."""
    asked: Asked = []
    for number in range(SERIES):
        about = rng.randrange(EXPORTERS) // 5 * 5
        project = f"p{about % projects}" if projects > 1 else ""
        labels = {
            "__name__": f"m{rng.randrange(997)}_total",
            "service_name": f"s{about % 50}",
            "resource_name": f"r{about}",
            "resource_kind": "Gateway",
            "a": f"b{rng.randrange(2 * EXPORTERS)}",
            "instance": f"host-{number}",
        }
        labels |= {name: name for name in ("c", "job", "n", "region", "cluster", "zone")}
        asked.append((labels | {"project": project}, project))
    return asked


def measure(projects: int) -> None:
    """Print the figures of one router."""
    selectors = [selector_of(number) for number in range(EXPORTERS)]
    asked = series_of(projects, random.Random(1))
    gc.collect()
    before = _resident_bytes()
    router = Router(tenancy=Tenancy("project") if projects > 1 else None)

    def build() -> None:
        for number, selector in enumerate(selectors):
            project = f"p{number % projects}" if projects > 1 else ""
            router.add(f"e{number}", project, [("s", selector, ())])

    built_s = _seconds(build)
    each_bytes = (_resident_bytes() - before) / EXPORTERS
    hits = sum(len(router.match(*one)[1]) for one in asked)
    matched_s = min(_seconds(lambda: [router.match(*one) for one in asked]) for _ in range(RUNS))

    def change(number: int) -> float:
        other = selectors[(number + 7) % EXPORTERS]
        return _seconds(lambda: router.replace(f"e{number}", [("s", other, ())]))

    step = EXPORTERS // CHANGES
    changes = [change(number) for number in range(0, EXPORTERS, step)]
    removals = [
        _seconds(partial(router.remove, f"e{number}")) for number in range(1, EXPORTERS, step)
    ]
    print(f"{EXPORTERS} exporters of {projects} projects")
    print(f"  build             {built_s:8.2f} s, {each_bytes:.0f} bytes an exporter")
    print(f"  match             {matched_s / SERIES * 1e6:8.1f} µs, {hits / SERIES:.1f} matches")
    for what, times in (("change one", changes), ("remove one", removals)):
        median, worst = statistics.median(times), max(times)
        print(f"  {what}        {median * 1e6:8.0f} µs, worst {worst * 1e3:.2f} ms")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
    else:
        for count in (1, PROJECTS):
            # A process each: one would reuse the other's memory.
            subprocess.run([sys.executable, "-m", "bench.micro.routing", str(count)], check=True)
