"""Translate modules to C, one after the other in one process: starting Cython takes as long as one.

``python -m build_support.translator`` reads the arguments of a ``cython`` command from each line of
its input, as JSON, and answers each with a line: its exit status. What Cython says goes to the
error stream.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]


class Translators:
    """Processes that translate, as many as are asked at the same time; they end with the block."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while not self._idle.empty():
            with self._idle.get() as process:
                assert process.stdin is not None, "a pipe was asked for"
                process.stdin.close()

    def translate(self, arguments: Sequence[str]) -> bool:
        """Run a ``cython`` command at the project's root; return whether it succeeded."""
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert process.stdin is not None, "a pipe was asked for"
        assert process.stdout is not None, "a pipe was asked for"
        print(json.dumps(arguments), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        if not answer:
            raise ChildProcessError(f"Cython ended with status {process.wait()}: {arguments}")
        self._idle.put(process)
        return answer == "0\n"


def main() -> None:
    """Answer every line of the input."""
    from Cython.Compiler.Main import main as cython  # noqa: PLC0415  # where a build has it

    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        sys.argv = ["cython", *json.loads(line)]
        status = 0
        try:
            cython(command_line=1)  # type: ignore[no-untyped-call]
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        print(status, file=answers, flush=True)


if __name__ == "__main__":
    main()
