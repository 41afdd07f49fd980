"""Queue files: what was saved is found again, whatever happened in between."""

from __future__ import annotations

import errno
import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest

from relay.sink.queue.cursor import QueueCursor
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.spill.orphans import StoredQueue
from relay.sink.spill.owner import Owner
from relay.sink.spill.record import SEGMENT_KIND, parse_segment_name, segment_name
from relay.sink.spill.segment_files import SEGMENT_BYTES, QueueFiles, directory_name
from relay.storage.log.filesystem import Disk
from relay.storage.log.frame import FORMAT, FormatError, encode_file_header, encode_frame
from tests.kit.storage.faulty_disk import FaultyDisk

OWNER = Owner("ns/exporter", "sink / with $ symbols", "collector.example.com", "u-1")


def payload(number: int, *, size: int = 100, shard: int = 0) -> EncodedRequest:
    return EncodedRequest(
        body=bytes([number % 256]) * size,
        encoding="gzip",
        points=number + 1,
        encoded_bytes=3 * size,
        position=number,
        shard=shard,
        created_at=1000.0 + number,
        attempts=2,
        depth=1,
    )


class Bench:
    """Files in a directory, written by one process after another."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.directory = root / directory_name(OWNER.key)
        self.disk = disk or Disk()
        root.mkdir(exist_ok=True)
        self.restart()

    def restart(self) -> StoredQueue:
        self.files = QueueFiles(self.root, disk=self.disk, sync=True)
        found = self.files.recover()
        return found.get(self.directory.name, StoredQueue(self.directory, None))

    def save(self, *payloads: EncodedRequest, shard: int = 0) -> list[EncodedRequest]:
        self.files.append(
            self.directory, OWNER, shard, [(p, p.position) for p in payloads], shards=1
        )
        return list(payloads)

    def read_all(self, found: StoredQueue, shard: int = 0) -> list[EncodedRequest]:
        backlog = found.backlogs[shard]
        read = []
        while backlog.entries:
            entry = backlog.open()
            each = self.files.read(self.directory, shard, entry.segment, entry.offset)
            backlog.finish()
            assert each is not None
            assert (each.points, each.body_bytes) == (entry.points, entry.body_bytes)
            read.append(each)
        return read


def test_a_payload_comes_back_as_it_was(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(7))
    found = bench.restart()
    assert found.owner == OWNER
    assert found.lows == {(0, 1): 7}
    (back,) = bench.read_all(found)
    assert back.body == payload(7).body
    assert (back.encoding, back.points, back.encoded_bytes) == ("gzip", 8, 300)
    assert (back.created_at, back.attempts, back.depth) == (1007.0, 2, 1)
    assert back.position == STORED


def test_order_is_kept_over_segments_lanes_and_restarts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    big = SEGMENT_BYTES // 3
    bench.save(*(payload(n, size=big) for n in range(7)))
    bench.save(payload(99, shard=1), shard=1)
    bench.save(payload(7), payload(8))
    bench.restart()
    bench.save(payload(9))
    found = bench.restart()
    assert [each.points for each in bench.read_all(found)] == list(range(1, 11))
    assert [each.points for each in bench.read_all(found, shard=1)] == [100]
    assert len(list(bench.directory.glob("0-*.seg"))) > 2


def test_a_cursor_says_where_to_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    places = bench.files.append(
        bench.directory, OWNER, 0, [(payload(n), n) for n in range(5)], shards=1
    )
    bench.files.write_cursors(
        bench.directory, {0: QueueCursor(places[3].segment, places[3].offset, 4, 12.5)}
    )
    found = bench.restart()
    assert found.cursors[0] == QueueCursor(places[3].segment, places[3].offset, 4, 12.5)
    assert [each.points for each in bench.read_all(found)] == [4, 5]


@pytest.mark.parametrize("damage", ["gone", "empty", "flipped"])
def test_without_its_cursor_a_lane_begins_again(tmp_path: Path, damage: str) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1), payload(2))
    bench.files.write_cursors(bench.directory, {0: QueueCursor(5, 0)})
    path = bench.directory / "cursor"
    whole = path.read_bytes()
    path.write_bytes(b"" if damage == "empty" else whole[:-1] + bytes([whole[-1] ^ 1]))
    if damage == "gone":
        path.unlink()
    assert [each.points for each in bench.read_all(bench.restart())] == [2, 3]


def test_segments_that_are_dealt_with_are_removed_and_their_numbers_not_used_again(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1))
    bench.files.remove(bench.directory, 0, [0])
    assert not list(bench.directory.glob("*.seg"))
    bench.save(payload(2))
    assert [path.name for path in bench.directory.glob("*.seg")] == ["0-1.seg"]


def test_a_cursor_never_points_behind_what_was_saved_after_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1))
    bench.files.write_cursors(bench.directory, {0: QueueCursor(0, 10_000)})
    bench.files.remove(bench.directory, 0, [0])
    bench.restart()
    bench.save(payload(2))
    found = bench.restart()
    assert [each.points for each in bench.read_all(found)] == [3]
    # Even one that the disk brings back from before.
    bench.files.write_cursors(bench.directory, {0: QueueCursor(0, 10_000)})
    assert [each.points for each in bench.read_all(bench.restart())] == [3]


def test_a_sink_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    class Unreadable(Disk):
        def open(self, path: Path) -> int:
            if path.name == "0-0.seg":
                raise OSError(errno.EIO, "Input/output error")
            return super().open(path)

    bench = Bench(tmp_path)
    bench.save(payload(1))
    bench.restart()
    bench.save(payload(2))
    bench.disk = Unreadable()
    found = bench.restart()
    assert [each.points for each in bench.read_all(found)] == [3]
    assert bench.files.damaged.files == 1


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    disk = FaultyDisk()
    bench = Bench(tmp_path, disk)
    bench.save(payload(1))
    disk.room_bytes = 2 * SEGMENT_BYTES + 1000
    big = SEGMENT_BYTES // 2 + 1
    with pytest.raises(OSError, match="No space"):
        bench.save(*(payload(n, size=big) for n in range(2, 9)))
    disk.room_bytes = None
    bench.save(payload(9))
    found = bench.restart()
    assert [each.points for each in bench.read_all(found)] == [2, 10]
    assert bench.files.damaged.torn_bytes == 0


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO, errno.EACCES])
def test_errors_come_out_as_they_are(tmp_path: Path, code: int) -> None:
    disk = FaultyDisk()
    bench = Bench(tmp_path, disk)
    disk.write_error = code
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the number says which
        bench.save(payload(1))
    assert raised.value.errno == code
    disk.write_error = 0
    bench.save(payload(2))
    assert [each.points for each in bench.read_all(bench.restart())] == [3]


def test_another_format_is_refused_and_untouched(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1))
    path = bench.directory / segment_name(0, 0)
    header = bytearray(encode_file_header(SEGMENT_KIND, 0))
    header[8] = FORMAT + 1
    header[-4:] = struct.pack("<I", zlib.crc32(bytes(header[:-4])))
    content = bytes(header) + path.read_bytes()[len(header) :]
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"format {FORMAT + 1}"):
        bench.restart()
    assert path.read_bytes() == content


def test_a_removed_sink_does_not_come_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1))
    retired = bench.directory.with_name(f"{bench.directory.name}.removed-1")
    bench.files.rename(bench.directory, retired)
    bench.save(payload(5))  # the same sink, added again meanwhile
    assert [each.points for each in bench.read_all(bench.restart())] == [6]
    assert not retired.exists()


def test_a_record_in_a_file_that_was_taken_away_is_lost_and_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1))
    (bench.directory / segment_name(0, 0)).unlink()
    assert bench.files.read(bench.directory, 0, 0, 0) is None
    bench.files.delete(bench.directory)
    assert bench.files.read(bench.directory, 0, 0, 0) is None


def test_a_directory_that_was_taken_away_is_made_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "queues")
    bench.save(payload(1))
    shutil.rmtree(tmp_path / "queues")
    (place,) = bench.files.append(bench.directory, OWNER, 0, [(payload(2), 2)], shards=1)
    assert place.segment == 1, "numbers only go up"
    assert bench.files.check(bench.directory, {(0, 0): 100, (0, 1): place.end}) == [(0, 0)]
    found = bench.restart()
    assert found.owner == OWNER
    assert [each.points for each in bench.read_all(found)] == [3]


def test_a_volume_that_is_gone_is_no_loss(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "queues")
    bench.save(payload(1))
    bench.files._volume._device = -1  # what is mounted there now is another
    shutil.rmtree(tmp_path / "queues")
    for work in (
        lambda: bench.files.append(bench.directory, OWNER, 0, [(payload(2), 2)], shards=1),
        lambda: bench.files.read(bench.directory, 0, 0, 0),
        lambda: bench.files.check(bench.directory, {(0, 0): 1}),
    ):
        with pytest.raises(OSError, match=r"the volume of .* is gone"):
            work()
    assert not (tmp_path / "queues").exists()


@pytest.mark.parametrize("damage", ["gone", "empty", "shorter", "none"])
def test_a_segment_that_is_taken_away_is_noticed_at_the_start(tmp_path: Path, damage: str) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1), payload(2))
    bench.restart()
    places = bench.files.append(bench.directory, OWNER, 0, [(payload(3), 3)], shards=1)
    backlog = bench.restart().backlogs[0]
    bench.files.write_cursors(bench.directory, {0: QueueCursor(*backlog.oldest, held=backlog.held)})
    path = bench.directory / segment_name(0, places[0].segment)
    if damage == "gone":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "shorter":
        path.write_bytes(path.read_bytes()[:-1])
    found = bench.restart()
    assert found.missing_points == (0 if damage == "none" else 4)
    assert found.points == 2 + 3 + (4 if damage == "none" else 0)


def test_an_owner_of_format_1_is_known(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1))
    frame = encode_frame(b"", json.dumps(OWNER.key).encode())
    (bench.directory / "sink").write_bytes(frame)
    found = bench.restart()
    assert found.owner == Owner(*OWNER.key)
    assert OWNER.may_adopt(found.owner)


def test_since_when_an_owner_is_gone_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1))
    bench.files.identify(bench.directory, OWNER, 12.5)
    found = bench.restart()
    assert (found.owner, found.orphaned_at) == (OWNER, 12.5)
    bench.files.identify(bench.directory, OWNER, None)
    assert bench.restart().orphaned_at is None


@pytest.mark.parametrize(
    ("left", "adopts"),
    [
        (Owner("a", "s", "h", "u"), True),
        (Owner("a", "s"), True),
        (Owner("a", "s", "h"), True),
        (Owner("a", "s", "other", "u"), False),
        (Owner("a", "s", "h", "v"), False),
        (Owner("a", "t", "h", "u"), False),
        (Owner("b", "s", "h", "u"), False),
    ],
)
def test_who_may_adopt(left: Owner, adopts: bool) -> None:
    assert Owner("a", "s", "h", "u").may_adopt(left) is adopts


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.save(payload(1))
    (bench.directory / "notes.txt").write_text("mine")
    (tmp_path / "stray").write_text("mine")
    assert [each.points for each in bench.read_all(bench.restart())] == [2]
    assert (bench.directory / "notes.txt").exists()


def test_names() -> None:
    assert parse_segment_name(segment_name(3, 12)) == (3, 12)
    assert parse_segment_name("cursor") is None
    assert directory_name(("a", "b/c")) != directory_name(("a/b", "c"))
