"""The last known objects on disk: atomic, checksummed, bounded, of one server and resource."""

from __future__ import annotations

import asyncio
import errno
import stat
import threading
import time
from pathlib import Path

import pytest

from relay.control.kubernetes.cache_file import CacheWriter, ObjectCache
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.runtime.errors import StorageError
from relay.storage.journal.checkpoint import seal, unseal
from relay.storage.log.filesystem import Disk
from tests.kit.processes import eventually

SECRETS = ApiResource("", "v1", "secrets", "Secret")


def objects(count: int) -> tuple[ApiObject, ...]:
    content, status = b'{"a":"\\n"}', b'{"b":1}'
    return tuple(
        ApiObject("n", f"s{number}", f"u{number}", "5", number, content, status, True, ("a/b",))
        for number in range(count)
    )


def cache(path: Path, **options: object) -> ObjectCache:
    options = {"server": "https://h", **options}
    return ObjectCache(path / "kube" / "secrets", SECRETS, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_saved_is_loaded(tmp_path: Path, count: int) -> None:
    size = cache(tmp_path).save(objects(count))
    file = tmp_path / "kube" / "secrets"
    assert size == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = cache(tmp_path).load()
    assert (found.objects, found.found, found.problem) == (objects(count), True, "")


def test_no_file_is_no_problem(tmp_path: Path) -> None:
    found = cache(tmp_path).load()
    assert (found.objects, found.found, found.problem) == ((), False, "")


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    cache(tmp_path).save(objects(2))
    file = tmp_path / "kube" / "secrets"
    good = file.read_bytes()
    for at in range(len(good)):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        found = cache(tmp_path).load()
        assert found.problem or found.objects == objects(2)  # the case of a checksum's digit
        assert found.objects in ((), objects(2))
    for length in (0, 10, len(good) - 1):
        file.write_bytes(good[:length])
        assert "is damaged" in cache(tmp_path).load().problem


@pytest.mark.parametrize(
    "other", [{"server": "https://other"}, {"namespace": "n"}, {"bytes_max": 20}]
)
def test_another_ones_file_is_not_used(tmp_path: Path, other: dict[str, object]) -> None:
    cache(tmp_path).save(objects(1))
    found = cache(tmp_path, **other).load()
    assert found.problem
    assert not found.found


def test_too_much_is_not_written_and_the_old_file_stays(tmp_path: Path) -> None:
    cache(tmp_path).save(objects(1))
    with pytest.raises(StorageError, match="more than 300 bytes"):
        cache(tmp_path, bytes_max=300).save(objects(50))
    assert cache(tmp_path).load().objects == objects(1)


class FullDisk(Disk):
    """A disk without room."""

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    cache(tmp_path).save(objects(1))
    with pytest.raises(StorageError, match="No space left"):
        cache(tmp_path, disk=FullDisk()).save(objects(2))
    assert cache(tmp_path).load().objects == objects(1)


def test_a_file_without_finalizers_is_loaded(tmp_path: Path) -> None:
    cache(tmp_path).save(objects(1))
    file = tmp_path / "kube" / "secrets"
    body = unseal(b"relay-objects", file.read_bytes())
    assert body is not None
    earlier = body.replace(b',["a/b"]]', b"]")
    assert earlier != body
    file.write_bytes(seal(b"relay-objects", earlier))
    (found,) = cache(tmp_path).load().objects
    assert found.finalizers == ()
    assert found.content == objects(1)[0].content


def writer(store: ObjectCache) -> CacheWriter:
    return CacheWriter(store, lambda: objects(1), soon_s=0.0, later_s=60.0, clock=time.monotonic)


class SlowDisk(Disk):
    """Writes once it is told to."""

    def __init__(self) -> None:
        self.begun, self.told = threading.Event(), threading.Event()

    def replace(self, path: Path, data: bytes, *, sync: bool) -> None:
        self.begun.set()
        assert self.told.wait(5)
        super().replace(path, data, sync=sync)


async def test_the_last_write_waits_for_the_one_under_way(tmp_path: Path) -> None:
    """After it the directory may be deleted: nothing must be written there any more."""
    disk = SlowDisk()
    store = cache(tmp_path, disk=disk)
    one = writer(store)
    one.note()
    one.hurry()
    running = asyncio.create_task(one.run())
    await eventually("it is written", disk.begun.is_set, timeout_s=5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    last = asyncio.create_task(one.save())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not last.done()
    disk.told.set()
    await last
    assert store.load().objects == objects(1)


async def test_a_file_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = FullDisk()
    one = writer(cache(tmp_path, disk=full))
    one.note()
    for _ in range(3):
        await one.save()
    assert one.problem.endswith("cannot be written: No space left on device")
    assert [record.getMessage() for record in caplog.records] == [
        f"last known objects on disk: {one.problem}"
    ]
