"""The allocator keeps large buffers, which shows in page faults and in nothing else."""

from __future__ import annotations

import platform
import subprocess
import sys

from relay.runtime import malloc

PROGRAM = """
import resource, sys
from relay.runtime import malloc
if sys.argv[1] == "settled":
    assert malloc.configure_malloc()
source = bytes(4 << 20)
def churn():
    for _ in range(20):
        pair = bytearray(source), bytearray(source)
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_large_buffers_are_not_made_of_new_pages_each_time() -> None:
    if platform.libc_ver()[0] != "glibc":
        assert not malloc.configure_malloc(), "only glibc has mallopt"
        return
    pages = 20 * 2 * (4 << 20) // 4096
    assert page_faults("as it is") > pages / 2
    assert page_faults("settled") < pages / 20
