"""Implement ``relay tap``: sampled live points, or records, of a running relay's sink."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from relay.cli.check import counted
from relay.cli.live.admin_client import DEFAULT_URL, add_relay_argument, ask, events
from relay.control.tap.tap import POINTS_MAX, SECONDS_MAX
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.excerpt import printable
from relay.selector.quoting import quote_name, quote_string


def add_tap_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_relay_argument(parser, default=DEFAULT_URL)
    parser.add_argument(
        "--sink",
        default="",
        metavar="NAME",
        help="needed if there are several; NAME/logs or NAME/traces for its log records or spans",
    )
    parser.add_argument(
        "--seconds", type=int, default=10, metavar="N", help=f"at most {SECONDS_MAX:g} (10)"
    )
    parser.add_argument(
        "--points",
        type=int,
        default=100,
        metavar="N",
        help=f"points, log records or spans to show; at most {POINTS_MAX:,} (100)",
    )
    parser.add_argument("exporter", metavar="EXPORTER", help="a running one, by its id")


def run_tap(arguments: argparse.Namespace) -> int:
    """Print points as they come. Raises ConfigError."""
    query = {
        "exporter": arguments.exporter,
        "sink": arguments.sink,
        "seconds": str(max(0, arguments.seconds)),
        "points": str(max(0, arguments.points)),
    }
    ended = False
    try:
        with ask(arguments.relay, "tap", query, silence_s=SECONDS_MAX + 10) as answer:
            for event in events(answer):
                if event["event"] == "point":
                    print(printable(point_line(event)))
                else:
                    ended = True
                    # Earlier versions send no unit.
                    unit = event.get("unit", "points").removesuffix("s")
                    print(
                        f"{event['shown']:,} shown of {counted(event['points'], unit)} in "
                        f"{event['batches']:,} {'batch' if event['batches'] == 1 else 'batches'}"
                    )
                    if not event["batches"]:
                        print("nothing was handed to the sink meanwhile")
                sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    if not ended:
        raise ConfigError([Fault("--relay", "the answer ended before the tap did")])
    return 0


def point_line(point: Mapping[str, Any]) -> str:
    """Return a point as a line: time, series, value, and its resource, if any."""
    at = datetime.fromtimestamp(point["time"], UTC).isoformat(timespec="milliseconds")
    line = f"{at.replace('+00:00', 'Z')} {quote_name(point['metric'])}{_braces(point['labels'])}"
    line += f" {point['value']} ({point['kind']})"
    return f"{line} of {_braces(point['resource'])}" if point["resource"] else line


def _braces(pairs: Mapping[str, str]) -> str:
    inside = ",".join(f"{quote_name(name)}={quote_string(text)}" for name, text in pairs.items())
    return f"{{{inside}}}"
