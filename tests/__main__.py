"""``python -m tests``: the whole suite, tests that compute beside tests that wait.

* Lanes are sets of folders (:data:`LANES`); all run at the same time, a pytest process each, and
  what is marked ``alone`` runs after them with nothing beside it.
* Every argument goes to every lane's pytest; a lane without a test that they select is no failure.
* The first lane is shown as it runs, the others when all have ended. The exit status is that of the
  first lane that failed; whatever fails, all lanes run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from tests.lanes import ALONE, LANES

NO_TESTS = 5
"""Exit status of pytest where nothing was selected."""

DEBUGGING = {"-s", "--capture=no", "--pdb", "--trace", "--collect-only", "--co"}
"""With these there is one process, whose terminal is this one."""


def pytest_command(lane: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line of one lane; what failed last is remembered for each."""
    command = [sys.executable, "-m", "pytest", f"--lane={lane}"]
    if "no:cacheprovider" not in arguments:
        command += ["-o", f"cache_dir=.pytest_cache/{lane}"]
    return [*command, *arguments]


def start(lane: str, arguments: Sequence[str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """Start one lane."""
    return subprocess.Popen(pytest_command(lane, arguments), stdout=output, stderr=output)


def side_by_side(arguments: Sequence[str]) -> dict[str, int]:
    """Run the lanes of :data:`LANES` at the same time and return their exit statuses."""
    shown, *hidden = LANES
    with ExitStack() as stack:
        outputs = {lane: stack.enter_context(tempfile.TemporaryFile()) for lane in hidden}
        running = {lane: start(lane, arguments, outputs.get(lane)) for lane in (shown, *hidden)}
        statuses = {lane: process.wait() for lane, process in running.items()}
        for output in outputs.values():
            output.seek(0)
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
    return statuses


def main(arguments: Sequence[str]) -> int:
    """Run the suite; return the exit status."""
    if DEBUGGING.intersection(arguments):
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode
    began = time.monotonic()
    print(f"tests: {', '.join(LANES)} side by side, {ALONE} after them", flush=True)
    statuses = side_by_side(arguments)
    statuses[ALONE] = start(ALONE, arguments, None).wait()
    told = ", ".join(f"{lane} {outcome(status)}" for lane, status in statuses.items())
    print(f"tests: {told}; {time.monotonic() - began:.0f} s", flush=True)
    failed = [status for status in statuses.values() if status not in {0, NO_TESTS}]
    if failed:
        return failed[0]
    return NO_TESTS if all(statuses.values()) else 0


def outcome(status: int) -> str:
    """Return an exit status of pytest in words."""
    return {0: "passed", NO_TESTS: "selects nothing"}.get(status, f"FAILED ({status})")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # the lanes got it as well, and end by themselves
        sys.exit(130)
