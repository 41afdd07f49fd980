"""The allocator keeps large buffers, which shows in page faults and in nothing else."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

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


def trims(shares: list[float], *, looks_a_second: int = 1) -> list[bool]:
    """Return in which of these seconds memory is given back, by the share of a CPU in each."""
    times, done = [0.0, 0.0], [0]
    trimmer = malloc.HeapTrimmer(
        tick=lambda: times[0], cpu_s=lambda: times[1], trim=lambda: done.append(1)
    )
    found = []
    for share in shares:
        before = len(done)
        for _ in range(looks_a_second):
            times[0] += 1.0 / looks_a_second
            times[1] += share / looks_a_second
            trimmer.look()
        found.append(len(done) > before)
    return found


def test_memory_is_given_back_once_after_each_busy_time() -> None:
    assert trims([0.9, 0.01, 0.01, 0.01, 0.01]) == [False, False, True, False, False]
    assert trims([0.01, 0.01, 0.01]) == [False] * 3
    assert trims([0.9, 0.01, 0.1, 0.01, 0.01]) == [False] * 4 + [True]
    assert trims([0.9, 0.9, 0.9]) == [False] * 3


def test_looks_in_quick_succession_count_as_one() -> None:
    assert trims([0.9, 0.01, 0.01, 0.01], looks_a_second=8) == [False, False, True, False]


def test_arenas_are_given_back_bit_by_bit_while_the_process_rests() -> None:
    left, clock, called = [3], [0.0, 0.0], [0]

    def trim_some() -> bool:
        left[0] -= 1
        return left[0] > 0

    def calls(shares: list[float]) -> list[int]:
        found = []
        for share in shares:
            clock[0] += 1.0
            clock[1] += share
            before = left[0]
            trimmer.look()
            found.append(before - left[0])
        return found

    trimmer = malloc.HeapTrimmer(
        tick=lambda: clock[0],
        cpu_s=lambda: clock[1],
        trim=lambda: called.append(1),
        trim_some=trim_some,
    )
    assert calls([0.9, 0.01, 0.01, 0.01, 0.01, 0.01]) == [0, 0, 1, 1, 1, 0]
    left[0] = 3
    assert calls([0.9, 0.01, 0.01, 0.3, 0.01, 0.01]) == [0, 0, 1, 0, 0, 1], "not while it is busy"


HEAPS = """
import ctypes, sys, threading
from relay.runtime import malloc
if sys.argv[2] == "shared":
    assert malloc.share_heap()
def work():
    made.append([b"x" * 4000 for _ in range(1000)])
made = []
worker = threading.Thread(target=work)
worker.start()
worker.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
told = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
assert libc.malloc_info(0, told) == 0
libc.fclose(told)
"""


def heaps_of_two_threads(report: Path, how: str) -> int:
    """Return how many heaps a process has that allocated in a thread besides its first."""
    subprocess.run([sys.executable, "-c", HEAPS, str(report), how], check=True)
    return report.read_text().count("<heap nr=")


def test_all_threads_share_one_heap(tmp_path: Path) -> None:
    if platform.libc_ver()[0] != "glibc":
        assert not malloc.share_heap(), "only glibc has mallopt"
        return
    assert heaps_of_two_threads(tmp_path / "own", "own") == 2
    assert heaps_of_two_threads(tmp_path / "shared", "shared") == 1


@pytest.mark.parametrize("between", [[0.1], [0.1, 0.1], [0.9, 0.9, 0.01, 0.01]])
def test_work_between_two_looks_does_not_end_what_is_given_back(between: list[float]) -> None:
    left, clock = [100], [0.0, 0.0]

    def trim_some() -> bool:
        left[0] -= 1
        return left[0] > 0

    trimmer = malloc.HeapTrimmer(
        tick=lambda: clock[0], cpu_s=lambda: clock[1], trim=lambda: 0, trim_some=trim_some
    )
    for share in (0.9, 0.01, 0.01, *between, *[0.01] * 200):
        clock[0] += 1.0
        clock[1] += share
        trimmer.look()
    assert left[0] == 0
