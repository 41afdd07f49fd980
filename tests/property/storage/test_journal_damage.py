"""Whatever happens to a journal's bytes: it opens, and what is whole is read, in order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from relay.storage.journal.record import SEGMENT_KIND, FullRead, Record, encode_record, read_segment
from relay.storage.journal.segment_log import SegmentLog
from relay.storage.log.frame import FILE_HEADER_BYTES, encode_file_header
from tests.kit.examples import examples
from tests.kit.storage.journals import append, offsets, record

RECORDS = st.builds(
    Record,
    position=st.just(0),
    received_at=st.floats(0, 4e9),
    encoding=st.sampled_from(["snappy", "zstd"]),
    tenant=st.none() | st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    body=st.binary(max_size=60),
    protocol=st.sampled_from(["remote_write_v1", "remote_write_v2"]),
)


@st.composite
def written(draw: st.DrawFn) -> list[Record]:
    """Some records with growing positions."""
    found = []
    position = 0
    for each in draw(st.lists(RECORDS, min_size=1, max_size=8)):
        position += draw(st.integers(1, 5))
        found.append(
            Record(position, each.received_at, each.encoding, each.tenant, each.body, each.protocol)
        )
    return found


def segment(written: list[Record]) -> tuple[bytes, list[tuple[int, int]]]:
    """A segment's bytes, and where each record stands in it."""
    data = encode_file_header(SEGMENT_KIND, 0)
    spans = []
    for each in written:
        frame = encode_record(each)
        spans.append((len(data), len(data) + len(frame)))
        data += frame
    return data, spans


def read(data: bytes) -> tuple[list[Record], int]:
    """What is read of a segment, and how many bytes of damage there are."""
    found, damaged = [], 0
    for item in read_segment(lambda offset, size: data[offset : offset + size], len(data)):
        if isinstance(item, FullRead):
            found.append(item.record)
        else:
            damaged += item.end - item.start
    return found, damaged


@given(written(), st.data())
def test_a_torn_journal_keeps_every_whole_record(wrote: list[Record], data: st.DataObject) -> None:
    whole, spans = segment(wrote)
    cut = data.draw(st.integers(0, len(whole)))
    found, damaged = read(whole[:cut])
    kept = [each for each, (_, end) in zip(wrote, spans, strict=True) if end <= cut]
    assert found == kept
    header = FILE_HEADER_BYTES if cut >= FILE_HEADER_BYTES else 0
    last = max((end for _, end in spans if end <= cut), default=header)
    assert damaged == cut - last


@given(written(), st.data())
@examples(200)
def test_flipped_bits_cost_the_records_that_they_are_in(
    wrote: list[Record], data: st.DataObject
) -> None:
    whole, spans = segment(wrote)
    flips = data.draw(st.sets(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=6))
    damaged = bytearray(whole)
    for bit in flips:
        damaged[bit // 8] ^= 1 << bit % 8
    hit = {bit // 8 for bit in flips}
    kept = [
        each
        for each, (start, end) in zip(wrote, spans, strict=True)
        if hit.isdisjoint(range(start, end))
    ]
    found, counted = read(bytes(damaged))
    assert found == kept
    if len(kept) < len(wrote) and kept:
        assert counted > 0


@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_no_obstacle(noise: bytes) -> None:
    assert read(noise) == ([], len(noise))


@given(st.lists(st.tuples(st.sampled_from(["cut", "flip"]), st.integers(0, 10**6)), max_size=4))
@examples(30)
def test_a_journal_whose_files_were_damaged_opens_and_goes_on(
    harm: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        log = SegmentLog(directory, segment_bytes_max=300, sync=False)
        for position in range(10):
            append(log, record(position, bytes(50)))
        paths = sorted(directory.iterdir())
        for kind, where in harm:
            path = paths[where % len(paths)]
            data = bytearray(path.read_bytes())
            if kind == "cut":
                del data[where % (len(data) + 1) :]
            elif data:
                data[where % len(data)] ^= 0x10
            path.write_bytes(data)
        again = SegmentLog(directory, segment_bytes_max=300, sync=False)
        again.recover()
        append(again, record(10))
        found = offsets(again)
    assert found == sorted(set(found))
    assert found[-1] == 10
    assert len(found) >= 11 - 3 * len(harm), "at most a segment's records for each harm"


@given(written(), st.binary(max_size=100), st.data())
def test_noise_between_records_is_stepped_over(
    wrote: list[Record], noise: bytes, data: st.DataObject
) -> None:
    whole, spans = segment(wrote)
    at = data.draw(st.sampled_from([start for start, _ in spans]))
    found, counted = read(whole[:at] + noise + whole[at:])
    assert found == wrote
    assert counted == len(noise)
