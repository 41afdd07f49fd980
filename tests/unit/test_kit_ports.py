"""Ports that tests give to the programs that they start."""

from __future__ import annotations

import subprocess
import sys

from tests.kit.paths import ROOT
from tests.kit.processes import PROCESS_PORTS, free_port

OTHER = "from tests.kit.processes import free_port; print(*(free_port() for _ in range(600)))"


def test_processes_of_tests_never_give_out_the_same() -> None:
    own = {free_port() for _ in range(PROCESS_PORTS)}
    other = subprocess.run(
        [sys.executable, "-c", OTHER], cwd=ROOT, capture_output=True, text=True, check=True
    )
    others = set(map(int, other.stdout.split()))
    assert len(others) > PROCESS_PORTS // 2
    assert own.isdisjoint(others)
