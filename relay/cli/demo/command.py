"""Implement the options of ``relay demo``. Exit status 0: the ledger balances; 1: it does not."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from relay.cli.demo import story
from relay.cli.demo.behaviour import Behaviour
from relay.cli.demo.show import Demo, Options
from relay.cli.live.screen import Screen
from relay.cli.live.sink_table import COLUMNS
from relay.control.reconcile.sink_entry import SinkKey
from relay.runtime.event_loop import run_on_uvloop

SECONDS_BOUNDS = (0.1, 7 * 24 * 3600.0)
SERIES_BOUNDS = (1, 200_000)
RATE_BOUNDS = (0.1, 1_000.0)

LIVE_ROWS_MIN = 24
"""Fewest terminal rows for redrawing the table in place: all of it must be visible."""


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that :func:`run_demo` reads."""
    default = Options()
    parser.add_argument(
        "--seconds",
        type=_number(float, *SECONDS_BOUNDS),
        metavar="N",
        help="end after so long (default: at Ctrl-C)",
    )
    parser.add_argument(
        "--series",
        type=_number(int, *SERIES_BOUNDS),
        default=default.series,
        metavar="N",
        help="about how many series the platform has (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=_number(float, *RATE_BOUNDS),
        default=default.rate,
        metavar="N",
        help="requests per second that the platform sends (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=default.seed,
        metavar="N",
        help="of the made-up figures (default: %(default)s)",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where to write the customers' kubeconfigs and an Exporter to try (default: a "
        "temporary directory)",
    )
    parser.add_argument(
        "--show-config",
        action="store_true",
        help="print the settings and Exporters, and end",
    )


def run_demo(
    arguments: argparse.Namespace, *, misbehave: Mapping[SinkKey, Behaviour] | None = None
) -> int:
    """Run the demo and return the exit status; tests replace behaviours by ``misbehave``."""
    if arguments.show_config:
        print("\n".join(story.configuration()), end="")
        return 0
    options = Options(
        seconds=arguments.seconds,
        series=arguments.series,
        rate=arguments.rate,
        seed=arguments.seed,
        directory=arguments.directory,
    )
    screen = Screen(sys.stdout, live=_is_live(sys.stdout))
    outcome = run_on_uvloop(Demo(options, screen, misbehave=misbehave).run())
    faults = outcome.audit.faults()
    screen.print(story.farewell(balanced=not faults))
    for check in faults:
        print(f"relay demo: does not balance: {check}", file=sys.stderr)
    for line in outcome.errors:
        print(f"relay demo: the relay logged an error: {line}", file=sys.stderr)
    return 0 if outcome.good else 1


def _is_live(out: TextIO) -> bool:
    """Return whether the table can be redrawn in place."""
    size = shutil.get_terminal_size()
    return (
        out.isatty()
        and os.environ.get("TERM", "dumb") != "dumb"
        and size.columns >= COLUMNS
        and size.lines >= LIVE_ROWS_MIN
    )


def _number(kind: type[int | float], lowest: float, highest: float) -> Callable[[str], float]:
    """Return an argparse type: a number within bounds."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest:  # also true for NaN
            raise argparse.ArgumentTypeError(
                f"must be {'a whole' if kind is int else 'a'} number from {lowest:g} to {highest:g}"
            )
        return value

    return parse
