"""Show blocks of lines on a terminal, each in place of the last one, or one after another.

Two control sequences are all that is used, so that it works everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO


class Screen:
    """Show one block of lines after another; if ``live``, in place of the last one."""

    def __init__(self, out: TextIO, *, live: bool) -> None:
        self.live = live
        self._out = out
        self._shown = 0

    def show(self, lines: Sequence[str]) -> None:
        """Show a block."""
        if self.live and self._shown:
            self._out.write(f"\x1b[{self._shown}F\x1b[J")  # to its first line; clear
        self._shown = len(lines)
        self.print(lines)

    def print(self, lines: Sequence[str]) -> None:
        """Write lines that stay."""
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()
