"""``python -m tests``: the whole suite, tests that compute beside tests that wait.

* Lanes are sets of folders (:data:`LANES`); all run at the same time, a pytest process each, and
  what is marked ``alone`` runs after them with nothing beside it.
* Every argument goes to every lane's pytest; a lane without a test that they select is no failure.
* The first lane is shown as it runs, the others when all have ended. The exit status is that of the
  first lane that failed; whatever fails, all lanes run.
* A few tests that fail beside the others run again, twice, with nothing beside them. If they pass
  both times the suite passes and calls them ``UNSTEADY``, behind what they said when they failed: a
  processor that others take away shows as a time that was exceeded, a defect fails again. What
  is called so is a fault of the test, or of the product, that waits to be mended.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tests.lanes import ALONE, CHOICES, LANES

NO_TESTS = 5
"""Exit status of pytest where nothing was selected."""

TESTS_FAILED = 1
"""Exit status of pytest where tests failed and nothing else went wrong."""

AGAIN = 2
"""How often tests that failed have to pass alone."""

UNSTEADY_MAX = 5
"""Most tests that may fail beside the others: more have one cause, which is no busy machine."""

ENDS_EARLY = re.compile(r"-[a-z]*x|--(exitfirst|maxfail|sw|stepwise|lf|last-failed)\b")
"""With these a lane that failed did not run all of its tests."""

DEBUGGING = {"-s", "--capture=no", "--pdb", "--trace", "--collect-only", "--co"}
"""With these there is one process, whose terminal is this one."""


def cache_of(lane: str) -> Path:
    """Return the folder in which a lane's pytest remembers what failed."""
    return Path(".pytest_cache") / lane


def failures_file(lane: str) -> Path:
    """Return where a lane's pytest keeps the names of tests that failed, as JSON."""
    return cache_of(lane) / "v/cache/lastfailed"


def pytest_command(lane: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line of one lane; what failed last is remembered for each."""
    command = [sys.executable, "-m", "pytest", f"--lane={lane}"]
    if "no:cacheprovider" not in arguments:
        command += ["-o", f"cache_dir={cache_of(lane)}"]
    return [*command, *arguments]


class LaneRun:
    """One lane that runs, and what it says.

    :param shown: whether it is shown as it comes
    """

    def __init__(self, lane: str, arguments: Sequence[str], output: IO[bytes], shown: bool) -> None:
        self._output = output
        coloured = ["--color=yes"] if shown and sys.stdout.isatty() else []
        self._process = subprocess.Popen(
            pytest_command(lane, [*coloured, *arguments]),
            stdout=subprocess.PIPE if shown else output,
            stderr=subprocess.STDOUT,
        )
        self._copying = threading.Thread(target=self._copy)
        if shown:
            self._copying.start()

    def _copy(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with pipe:
            while piece := pipe.read1():
                self._output.write(piece)
                show(piece)

    def wait(self) -> int:
        """Wait for its end and return the exit status; all that it said is in the file then."""
        status = self._process.wait()
        if self._copying.ident is not None:
            self._copying.join()
        return status


def show(piece: bytes) -> None:
    """Write to the terminal at once."""
    sys.stdout.buffer.write(piece)
    sys.stdout.flush()


def said(output: IO[bytes]) -> bytes:
    """Return all that was written to a file."""
    output.seek(0)
    return output.read()


def side_by_side(
    lanes: Sequence[str], arguments: Sequence[str], outputs: dict[str, IO[bytes]]
) -> dict[str, int]:
    """Run lanes at the same time, the first one shown, and return their exit statuses."""
    shown, *hidden = lanes
    running = {lane: LaneRun(lane, arguments, outputs[lane], lane == shown) for lane in lanes}
    statuses = {lane: run.wait() for lane, run in running.items()}
    for lane in hidden:
        show(said(outputs[lane]))
    return statuses


def failed_tests(lane: str) -> dict[str, bool]:
    """Return the tests that pytest remembers as failed in a lane."""
    remembered = failures_file(lane)
    failed: dict[str, bool] = json.loads(remembered.read_bytes()) if remembered.exists() else {}
    return failed


def may_run_again(statuses: Iterable[int], arguments: Sequence[str]) -> bool:
    """Return whether what failed are tests alone, of lanes that went on to their end."""
    return {*statuses} <= {0, NO_TESTS, TESTS_FAILED} and not any(
        ENDS_EARLY.match(argument) or argument == "no:cacheprovider" for argument in arguments
    )


def run_again(lane: str, failed: dict[str, bool], arguments: Sequence[str]) -> int:
    """Run the failed tests of a lane, as often as they have to pass; return the exit status."""
    these = [*arguments, "--last-failed", "--last-failed-no-failures=none"]
    for _ in range(AGAIN):
        failures_file(lane).write_text(json.dumps(failed))  # what passes is taken out of it
        with tempfile.TemporaryFile() as output:
            if status := LaneRun(lane, these, output, shown=True).wait():
                return status
    return 0


def steady(
    statuses: dict[str, int], arguments: Sequence[str], outputs: dict[str, IO[bytes]]
) -> dict[str, int]:
    """Run what failed again where that is of use, say what each failure was, and return statuses.

    A lane whose failed tests passed each time has passed.
    """
    failed = {lane: failed_tests(lane) for lane in statuses if statuses[lane] == TESTS_FAILED}
    if not all(failed.values()):  # pytest says that it failed, and names no test
        return statuses
    count = sum(map(len, failed.values()))
    if not 0 < count <= UNSTEADY_MAX or not may_run_again(statuses.values(), arguments):
        return statuses
    again = {lane: run_again(lane, tests, arguments) for lane, tests in failed.items()}
    for lane, tests in failed.items():
        show(b"\n" + said(outputs[lane]).partition(b" FAILURES ")[2])
        word = "FAILED AGAIN" if again[lane] else "UNSTEADY: failed beside others, passed alone"
        for test in tests:
            print(f"tests: {word}: {test}", flush=True)
    return statuses | again


def main(arguments: Sequence[str]) -> int:
    """Run the suite; return the exit status."""
    if DEBUGGING.intersection(arguments):
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode
    began = time.monotonic()
    print(f"tests: {', '.join(LANES)} side by side, {ALONE} after them", flush=True)
    with ExitStack() as stack:
        outputs = {lane: stack.enter_context(tempfile.TemporaryFile()) for lane in CHOICES}
        statuses = side_by_side(tuple(LANES), arguments, outputs)
        statuses |= side_by_side((ALONE,), arguments, outputs)
        statuses = steady(statuses, arguments, outputs)
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
