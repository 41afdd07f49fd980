"""Arenas come from huge pages and go back; what is in them stays what it was.

Each case runs in a process of its own: an allocator is the process's, and cannot be taken off.
Chunks of memory are asked for without a look at the kernel's setting: what is kept of them is the
same where it makes no huge pages of them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relay.runtime import huge_pages

HEAD = """
import random, re, sys
from relay.runtime import huge_pages
def many(count=400_000):
    return [(number, f"{number:050}") for number in range(count)]
def check(held):
    assert all(text == f"{number:050}" for number, text in held)
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def run(program: str) -> None:
    """Run a program; where nothing but Linux has the calls, the module must say so instead."""
    if sys.platform != "linux":
        program = "assert not huge_pages.use_chunks()"
    command = [sys.executable, "-c", HEAD + program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_arenas_come_from_chunks_and_go_back() -> None:
    run("""
assert huge_pages.use_chunks(ordinary=2)
held = many()
count, free = huge_pages.chunks()
assert count > 20 and free <= 1, (count, free)
check(held)
del held
left, _ = huge_pages.chunks()
assert left < count / 4, (left, count)
held = many()
check(held)
again, free = huge_pages.chunks()
assert count - 2 <= again <= count + 2 and free <= 2, (again, count, free)
""")


def test_arenas_stay_where_they_were_without_huge_pages() -> None:
    run("""
from pathlib import Path
assert not huge_pages.use_huge_pages(ordinary=0, system=Path("nowhere"))
held = many()
assert huge_pages.chunks() == (0, 0)
assert huge_pages.use_huge_pages(ordinary=0) == huge_pages.has_huge_pages()
more = many()
assert (huge_pages.chunks() == (0, 0)) != huge_pages.has_huge_pages()
check(held)
check(more)
""")


def test_chunks_are_marked_for_the_kernel() -> None:
    run("""
assert huge_pages.use_chunks(ordinary=0)
held = many()
place, flags = id(held[-1]), ""
inside = False
for line in open("/proc/self/smaps"):
    bounds = re.match("([0-9a-f]+)-([0-9a-f]+) ", line)
    if bounds:
        inside = int(bounds[1], 16) <= place < int(bounds[2], 16)
    elif inside and line.startswith("VmFlags"):
        flags = line
assert (" hg" in flags) == huge_pages.SYSTEM.exists(), flags
""")


def test_what_lives_long_between_what_does_not_stays_whole() -> None:
    run("""
chance = random.Random(7)
assert huge_pages.use_chunks(ordinary=0)
held = {}
for turn in range(60):
    for number in range(6_000):
        key = chance.randrange(50_000)
        size = chance.choice((16, 40, 100, 300, 480))
        held[key] = bytes([key % 251]) * size
    for key in chance.sample(sorted(held), len(held) // (2 if turn % 9 else 1)):
        content = held.pop(key)
        assert content == bytes([key % 251]) * len(content)
assert held
for key, content in held.items():
    assert content == bytes([key % 251]) * len(content)
""")


def test_arenas_from_before_go_back_where_they_came_from() -> None:
    run("""
before = many()
assert huge_pages.use_chunks(ordinary=0)
after = many()
check(before)
count, _ = huge_pages.chunks()
full = resident()
del before
assert huge_pages.chunks()[0] == count
assert resident() < full - 30_000, (full, resident())
check(after)
""")


def test_the_first_stay_ordinary_and_a_second_call_changes_nothing() -> None:
    run("""
assert huge_pages.use_chunks(ordinary=1_000)
assert huge_pages.use_chunks(ordinary=0)
held = many()
assert huge_pages.chunks() == (0, 0)
check(held)
""")


def test_a_process_that_grows_and_shrinks_a_little_stays_ordinary() -> None:
    run("""
assert huge_pages.use_chunks(ordinary=12)
for _ in range(20):
    held = [bytes(100) for _ in range(60_000)]  # 8 MiB
    del held
assert huge_pages.chunks() == (0, 0)
""")


def test_stacks_of_calls_are_no_arenas() -> None:
    run("""
import threading
def deep(left):
    return left and deep(left - 1)
assert huge_pages.use_chunks(ordinary=6)
sys.setrecursionlimit(5_000)
for _ in range(20):
    one = threading.Thread(target=deep, args=(3_000,))
    one.start()
    one.join()
held = [bytes(100) for _ in range(30_000)]  # 4 MiB: four arenas at least
assert huge_pages.chunks() == (0, 0)
held += [bytes(100) for _ in range(70_000)]
assert huge_pages.chunks()[0] > 0
""")


def test_free_halves_are_given_back_when_asked() -> None:
    run("""
assert huge_pages.use_chunks(ordinary=0)
def part():
    return [bytes(400) for _ in range(6_900)]  # three arenas, nearly
parts = [part() for _ in range(60)]  # an odd number of arenas apart
for number in range(0, 60, 3):
    parts[number] = None
count, free = huge_pages.chunks()
assert free > 5, (count, free)
before = resident()
assert huge_pages.trim_arenas(most=2)
while huge_pages.trim_arenas(most=5):
    pass
assert not huge_pages.trim_arenas(most=0)
given = before - resident()
assert given > 0.8 * 1024 * free, (given, free)
assert huge_pages.chunks() == (count, free)
for number in range(0, 60, 3):
    parts[number] = part()
assert all(one == bytes(400) for held in parts for one in held)
assert huge_pages.chunks()[1] < free
""")


def test_chunks_are_made_before_they_are_needed_and_given_back() -> None:
    run("""
import os, signal, time
def wait_for_spares():
    deadline = time.monotonic() + 30
    while huge_pages.spares() < huge_pages.SPARES and time.monotonic() < deadline:
        time.sleep(0.01)
    assert huge_pages.spares() == huge_pages.SPARES
assert huge_pages.use_chunks(ordinary=6)
assert huge_pages.spares() == 0
few = [bytes(100) for _ in range(20_000)]
threads = len(os.listdir("/proc/self/task"))
held = many()
wait_for_spares()
check(held)
# The thread takes no signal: those are the interpreter's.
(other,) = set(os.listdir("/proc/self/task")) - {str(os.getpid())}
blocked = re.search(r"SigBlk:\\s+(\\w+)", open(f"/proc/self/task/{other}/status").read())[1]
assert int(blocked, 16) >> signal.SIGTERM - 1 & 1
more = many(60_000)
check(more)
wait_for_spares()
before = resident()
# The thread may still be filling what another chunk asked for.
while huge_pages.trim_arenas() or huge_pages.spares():
    pass
given = before - resident()
assert given > 0.9 * 2048 * huge_pages.SPARES, given
more += many(60_000)
check(held)
wait_for_spares()
assert threads == 1 and len(os.listdir("/proc/self/task")) == 2
""")


def test_a_child_that_was_forked_maps_its_chunks_itself() -> None:
    run("""
import os
assert huge_pages.use_chunks(ordinary=0)
held = many()
child = os.fork()
if not child:
    try:
        more = many()
        check(held)
        check(more)
        os._exit(0)
    finally:
        os._exit(1)
_, status = os.waitpid(child, 0)
assert status == 0
check(held)
""")


@pytest.mark.parametrize(
    ("enabled", "size", "expected"),
    [
        ("always [madvise] never", "2097152", True),
        ("[always] madvise never", "2097152", True),
        ("always madvise [never]", "2097152", False),
        ("always [madvise] never", "536870912", False),
        ("always [madvise] never", "", False),
        (None, "2097152", False),
    ],
)
def test_what_the_kernel_says(
    tmp_path: Path, enabled: str | None, size: str, *, expected: bool
) -> None:
    if enabled is not None:
        (tmp_path / "enabled").write_text(enabled + "\n")
    (tmp_path / "hpage_pmd_size").write_text(size + "\n")
    assert huge_pages.has_huge_pages(tmp_path) == expected
