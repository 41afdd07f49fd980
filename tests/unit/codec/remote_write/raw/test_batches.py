"""A raw batch from prefix to body, by hand; the rest is in the property tests."""

from __future__ import annotations

import random
import struct

import cramjam
import pytest

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.otlp.metrics import encode_time
from relay.codec.remote_write.external_labels import ExternalLabels
from relay.codec.remote_write.raw.buffer import RawEntry, RawPointBuffer
from relay.codec.remote_write.raw.encoder import V1Encoder, V2Encoder
from relay.codec.remote_write.raw.entries import (
    exemplars_rider,
    metadata_rider,
    prefix_of,
    sample_entry,
)
from relay.codec.remote_write.raw.label_table import LabelTable
from relay.codec.remote_write.raw_series import RawExemplar, RawSeries, read_v1, read_v2
from relay.codec.remote_write.v1 import Metadata, label_key
from relay.codec.remote_write.v2 import Metadata2
from relay.pipeline.batching.transaction import BatchTransaction, IngestMark
from relay.runtime.errors import DecodeError
from relay.sink.queue.encoding import SharedBodyCache

TIME_MS = 1_700_000_000_123
STALE = struct.pack("<Q", 0x7FF0000000000002)
ONE = struct.pack("<d", 1.0)
UP = label_key([("__name__", "up"), ("job", "api")])
DOWN = label_key([("__name__", "down"), ("job", "api")])
EXEMPLAR = RawExemplar(label_key([("trace_id", "abc")]), ONE, TIME_MS)
UNBOUNDED = 1 << 40


def stamp(time_ms: int) -> bytes:
    """A time as the pipeline appends it."""
    encoded = encode_time(time_ms)
    assert encoded is not None
    return encoded


class Rig:
    """An open raw batch and a table."""

    def __init__(self) -> None:
        self.batch = OpenBatch(None, limit=1000, new_buffer=RawPointBuffer)
        self.table = LabelTable()
        self.group = self.table.group(0)
        self.request = 0

    def write(self, *samples: tuple[bytes, bytes, int] | RawEntry | bytes) -> BatchTransaction:
        """Write (prefix, value, time) or entries as one request, and do not commit it."""
        self.request += 1
        transaction = BatchTransaction(self.request, 1.0)
        origin = IngestMark(self.request, 1.0)
        for sample in samples:
            if isinstance(sample, RawEntry) and sample.is_point:
                transaction.append_point(self.batch, self.group, sample, origin)
            elif isinstance(sample, RawEntry | bytes):
                assert transaction.append_rider(self.batch, self.group, sample)
            else:
                prefix, value, time_ms = sample
                transaction.append_sample(self.batch, self.group, prefix, stamp(time_ms), value)
        if self.batch.group is not None:
            self.batch.point_buffer.close_run(self.batch.group)
            self.batch.group = None
        return transaction

    def seal(self) -> SealedBatch:
        """The batch, sealed."""
        sealed = self.batch.seal()
        assert sealed is not None
        return sealed


def test_samples_leave_as_they_came() -> None:
    rig = Rig()
    up, down = prefix_of(rig.table, UP), prefix_of(rig.table, DOWN)
    rig.write((up, ONE, TIME_MS), (down, STALE, TIME_MS), (up, bytes(8), TIME_MS + 1))
    sealed = rig.seal()
    expected = [
        RawSeries(UP, [(ONE, TIME_MS, 0)], [], []),
        RawSeries(DOWN, [(STALE, TIME_MS, 0)], [], []),
        RawSeries(UP, [(bytes(8), TIME_MS + 1, 0)], [], []),
    ]
    assert read_v1(V1Encoder().encode(sealed)) == (expected, [])
    assert read_v2(V2Encoder().encode(sealed)) == expected
    assert sealed.count == 3


def test_late_points_are_put_in_order() -> None:
    rig = Rig()
    up, down = prefix_of(rig.table, UP), prefix_of(rig.table, DOWN)
    rig.write((up, ONE, TIME_MS + 5), (down, ONE, TIME_MS + 5))
    rig.write((up, bytes(8), TIME_MS), (down, ONE, TIME_MS + 5))
    series, _ = read_v1(V1Encoder().encode(rig.seal()))
    assert [(one.labels, one.samples[0][1]) for one in series] == [
        (UP, TIME_MS),
        (UP, TIME_MS + 5),
        (DOWN, TIME_MS + 5),
        (DOWN, TIME_MS + 5),
    ]


def test_riders_leave_with_points_and_never_alone() -> None:
    rig = Rig()
    up = prefix_of(rig.table, UP)
    family = Metadata(2, "up", "Whether it is.", "")
    rig.write(metadata_rider(family), exemplars_rider("remote_write_v1", up, (EXEMPLAR,)))
    assert rig.batch.seal() is None
    rig.write((up, ONE, TIME_MS))
    sealed = rig.seal()
    assert sealed.count == 1
    series, metadata = read_v1(V1Encoder().encode(sealed))
    assert metadata == [family]
    assert series == [
        RawSeries(UP, [], [], [EXEMPLAR]),
        RawSeries(UP, [(ONE, TIME_MS, 0)], [], []),
    ]
    assert V1Encoder().split(V1Encoder().encode(sealed)) is None


def test_exemplars_of_2_0_join_a_point_of_their_series() -> None:
    rig = Rig()
    up, down = (prefix_of(rig.table, key, declaration=(2, "h", "u")) for key in (UP, DOWN))
    rig.write(
        (up, ONE, TIME_MS),
        exemplars_rider("remote_write_v2", up, (EXEMPLAR,)),
        exemplars_rider("remote_write_v2", down, (EXEMPLAR, EXEMPLAR)),
    )
    (body,) = V2Encoder().encode_bodies(rig.seal(), "snappy", UNBOUNDED)
    assert body.lone_exemplars == 2
    plain = bytes(cramjam.snappy.decompress_raw(body.data))
    assert len(plain) == body.encoded_bytes
    assert read_v2(plain) == [
        RawSeries(UP, [(ONE, TIME_MS, 0)], [], [EXEMPLAR], Metadata2(2, "h", "u"))
    ]


def test_lone_exemplars_are_counted_for_each_sink() -> None:
    rig = Rig()
    up, down = (prefix_of(rig.table, key) for key in (UP, DOWN))
    rig.write((up, ONE, TIME_MS), exemplars_rider("remote_write_v2", down, (EXEMPLAR, EXEMPLAR)))
    sealed = rig.seal()
    bodies = SharedBodyCache()
    first = bodies.bodies_of(sealed, V2Encoder(), "snappy", UNBOUNDED)
    assert bodies.lone_exemplars == 2
    assert bodies.bodies_of(sealed, V2Encoder(), "snappy", UNBOUNDED) is first
    assert (bodies.made, bodies.shared, bodies.lone_exemplars) == (1, 1, 4)


def test_a_rollback_takes_riders_back() -> None:
    rig = Rig()
    up = prefix_of(rig.table, UP)
    rig.write((up, ONE, TIME_MS))
    transaction = rig.write(
        sample_entry("remote_write_v1", up, ONE, TIME_MS, exemplars=(EXEMPLAR,)),
        metadata_rider(Metadata(1, "up", "", "")),
    )
    transaction.rollback()
    buffer = rig.batch.point_buffer
    assert isinstance(buffer, RawPointBuffer)
    assert buffer.riders_bytes == 0
    assert rig.seal().count == 1
    assert len(buffer.entries()) == 1


def test_riders_are_bounded() -> None:
    buffer = RawPointBuffer()
    metadata = metadata_rider(Metadata(1, "up", "x" * 1000, ""))
    taken = 0
    while buffer.add_rider(metadata):
        taken += 1
    assert 900 < taken < 1100


def test_external_labels_are_part_of_the_prefix() -> None:
    table = LabelTable()
    prefix = prefix_of(table, UP, ExternalLabels({"cluster": "eu", "job": "mine"}))
    assert b"".join(table.fields_of(prefix)) == label_key(
        [("__name__", "up"), ("cluster", "eu"), ("job", "api")]
    )


@pytest.mark.parametrize(
    "key", [b"\x0a", b"\x0a\x05ab", b"\x12\x01a", UP + b"\x0a\xff", b"\x0a" + b"\xff" * 9]
)
def test_a_key_that_is_no_labels_is_refused(key: bytes) -> None:
    with pytest.raises(DecodeError):
        LabelTable().place(key)


def test_groups_are_one_for_each_shard_key() -> None:
    table = LabelTable()
    assert table.group(1) is table.group(1)
    assert table.group(1) is not table.group(2)
    assert table.group(1).table is table
    assert table.group(1).stale_prefix(b"abcd") == b"abcd"
    table.close()


def test_a_table_numbers_each_field_once_however_many_there_are() -> None:
    table = LabelTable()
    keys = [
        label_key([("__name__", f"m{n % 7}"), ("id", "x" * (n % 40) + str(n))]) for n in range(5000)
    ]
    keys.append(label_key([("long", "y" * 70_000)]))
    prefixes = [table.place(key) for key in keys]
    assert len(table) == 7 + 5000 + 1
    assert [table.place(key) for key in keys] == prefixes
    assert [b"".join(table.fields_of(prefix)) for prefix in prefixes] == keys
    assert table.grown == 5001
    assert 70_000 < table.memory_bytes < 70_000 + 5007 * 120


def test_a_table_is_due_when_most_of_it_is_dead() -> None:
    table = LabelTable()
    for number in range(70_000):
        table.place(label_key([("id", str(number))]))
    assert table.is_due(0)
    assert not table.is_due(70_000)


def test_declarations_are_part_of_the_prefix() -> None:
    table = LabelTable()
    plain, one, other = (
        table.place(UP, declaration) for declaration in (None, (1, "h", ""), (2, "", ""))
    )
    assert len({plain, one, other}) == 3
    assert [table.declaration_of(prefix) for prefix in (plain, one, other)] == [
        None,
        (1, "h", ""),
        (2, "", ""),
    ]
    assert table.fields_of(plain) == table.fields_of(other)


def test_a_batch_of_two_tables_is_encoded_as_one() -> None:
    rig = Rig()
    rig.write((prefix_of(rig.table, UP), ONE, TIME_MS))
    other = LabelTable()
    other.place(DOWN)
    rig.group = other.group(0)
    rig.write((prefix_of(other, UP), ONE, TIME_MS + 1), (prefix_of(other, DOWN), ONE, TIME_MS))
    sealed = rig.seal()
    for series in (read_v1(V1Encoder().encode(sealed))[0], read_v2(V2Encoder().encode(sealed))):
        assert [(one.labels, one.samples[0][1]) for one in series] == [
            (UP, TIME_MS),
            (UP, TIME_MS + 1),
            (DOWN, TIME_MS),
        ]


def test_repeated_labels_become_copies_of_any_distance() -> None:
    """The block is far smaller than the body, also where a label came long before."""
    rig = Rig()
    rig.batch.limit = 1 << 30
    prefixes = [
        prefix_of(rig.table, label_key([("__name__", f"metric_{n:05}"), ("pod", "p" * 100)]))
        for n in range(2000)
    ]
    values = random.Random(0)
    for time_ms in (TIME_MS, TIME_MS + 1):
        rig.write(*((prefix, values.randbytes(8), time_ms) for prefix in prefixes))
    sealed = rig.seal()
    (body,) = V1Encoder().encode_bodies(sealed, "snappy", UNBOUNDED)
    plain = V1Encoder().encode(sealed)
    assert bytes(cramjam.snappy.decompress_raw(body.data)) == plain
    assert len(body.data) < len(plain) / 4
    assert len(body.data) < 1.2 * len(cramjam.snappy.compress_raw(plain))
