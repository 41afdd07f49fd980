"""Queue files that were torn or bent: the rest is delivered, and what is lost is counted."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from relay.sink.queue.payload import EncodedRequest
from relay.sink.spill.owner import Owner
from relay.sink.spill.segment_files import QueueFiles, directory_name
from relay.storage.log.filesystem import Disk
from tests.kit.examples import examples

OWNER = Owner("e", "s")


def write(root: Path, count: int) -> tuple[Path, list[tuple[int, int]]]:
    """A segment of ``count`` payloads; returns it and where each record begins and ends."""
    files = QueueFiles(root, disk=Disk(), sync=False)
    payloads = [
        EncodedRequest(
            b"%d:" % number + bytes(number * 7), "none", 1 + number, 50, number, 0, float(number)
        )
        for number in range(count)
    ]
    directory = root / directory_name(OWNER.key)
    places = files.append(directory, OWNER, 0, [(p, p.position) for p in payloads], shards=1)
    (path,) = directory.glob("*.seg")
    return path, [(place.offset, place.end) for place in places]


def recover(root: Path) -> tuple[list[int], QueueFiles, int]:
    """The numbers of all payloads that can be delivered after a restart, and how many could not be
    read when their turn came."""
    files = QueueFiles(root, disk=Disk(), sync=False)
    found = files.recover()[directory_name(OWNER.key)]
    numbers, lost = [], 0
    backlog = found.backlogs.get(0)
    while backlog is not None and backlog.entries:
        entry = backlog.open()
        payload = files.read(found.directory, 0, entry.segment, entry.offset)
        backlog.finish()
        if payload is None:
            lost += 1
        else:
            assert payload.points == entry.points
            numbers.append(int(payload.body.split(b":")[0]))
            assert payload.body == b"%d:" % numbers[-1] + bytes(numbers[-1] * 7)
    return numbers, files, lost


@examples(120)
@given(data=st.data())
def test_a_flipped_bit_costs_one_record_at_most(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, records = write(Path(name), 6)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(bytes(content))
        expected = [n for n, (start, end) in enumerate(records) if not start <= at < end]
        numbers, files, lost = recover(Path(name))
        assert numbers == expected
        damage = files.damaged
        # A file header that is bent costs nothing; a record is missed at start-up or when read.
        assert lost + damage.records + bool(damage.torn_bytes) == 1
        assert damage.files == 0


@examples(120)
@given(cut=st.floats(0, 1), garbage=st.binary(max_size=60))
def test_a_torn_tail_costs_the_records_in_it(cut: float, garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, records = write(Path(name), 6)
        content = path.read_bytes()
        size = int(cut * len(content))
        path.write_bytes(content[:size] + garbage)
        whole = [number for number, (_, end) in enumerate(records) if end <= size]
        numbers, files, lost = recover(Path(name))
        assert numbers[: len(whole)] == whole
        # Garbage may happen to complete the cut record, and nothing else.
        assert len(numbers) + lost <= len(whole) + 1
        torn = files.damaged.torn_bytes + files.damaged.bytes
        if len(numbers) + lost == len(whole):
            start = records[len(whole) - 1][1] if whole else 32
            assert torn == size + len(garbage) - (start if size >= 32 else 0)


@examples(60)
@given(data=st.data())
def test_bytes_torn_out_of_the_middle_cost_what_they_touched(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, records = write(Path(name), 6)
        content = path.read_bytes()
        start = data.draw(st.integers(32, len(content) - 1))
        end = data.draw(st.integers(start, len(content)))
        path.write_bytes(content[:start] + data.draw(st.binary(max_size=20)) + content[end:])
        safe = [n for n, (first, last) in enumerate(records) if last <= start or first >= end]
        numbers, _, _ = recover(Path(name))
        assert [number for number in numbers if number in safe] == safe
        assert len(numbers) <= 6


@examples(60)
@given(content=st.binary(max_size=3000))
def test_any_bytes_at_all_are_survived(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, _ = write(Path(name), 1)
        path.write_bytes(content)
        recover(Path(name))


def test_bytes_torn_out_of_a_body_cost_that_record_alone() -> None:
    """Its header says truthfully how long it was: the next record begins before that."""
    with tempfile.TemporaryDirectory() as name:
        path, records = write(Path(name), 6)
        content = path.read_bytes()
        first, last = records[4]
        for size in (1, 5, 20):
            path.write_bytes(content[: last - size] + content[last:])
            numbers, files, lost = recover(Path(name))
            assert (numbers, lost) == ([0, 1, 2, 3, 5], 0)
            assert files.damaged.bytes == last - first - size
