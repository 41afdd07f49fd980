"""Records of requests are found, batched and written as the official classes would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.otlp.envelope import scan
from relay.codec.otlp.record_buffer import RecordBuffer, RecordGroup
from relay.runtime.errors import DecodeError
from tests.kit.examples import examples
from tests.kit.otlp.official import LOGS, TRACES, Kind, Row, grouped
from tests.kit.otlp.requests import requests

usual = examples(60)
kinds = pytest.mark.parametrize("kind", [LOGS, TRACES], ids=["logs", "traces"])


def fill(buffer: RecordBuffer, body: bytes) -> None:
    """Append all records of a request."""
    envelope = scan(body)
    for head, scopes in envelope.resources:
        for scope, first, stop in scopes:
            buffer.append(envelope, first, stop)
            buffer.close_run(RecordGroup(head, scope))


def fault_at(body: bytes) -> int | None:
    """Return the offset of the fault that a scan names; None if it finds none."""
    try:
        scan(body)
    except DecodeError as error:
        return -1 if error.offset is None else error.offset
    return None


def canonical(kind: Kind, head: bytes, scope: bytes, record: bytes) -> Row:
    """Return the parts as the official classes write them."""
    return (
        kind.resource.FromString(head).SerializeToString(deterministic=True),
        kind.scope.FromString(scope).SerializeToString(deterministic=True),
        kind.record.FromString(record).SerializeToString(deterministic=True),
    )


@kinds
@usual
@given(data=st.data())
def test_a_scan_finds_what_the_official_classes_find(kind: Kind, data: st.DataObject) -> None:
    body = data.draw(requests(kind))
    envelope = scan(body)
    found = [
        canonical(kind, head, scope, envelope.record(number))
        for head, scopes in envelope.resources
        for scope, first, stop in scopes
        for number in range(first, stop)
    ]
    assert found == kind.rows(body)
    assert envelope.count == len(found)


@kinds
@usual
@given(data=st.data(), bytes_max=st.integers(1, 400))
def test_batches_are_written_whole_and_cut(kind: Kind, data: st.DataObject, bytes_max: int) -> None:
    bodies = data.draw(st.lists(requests(kind), max_size=3))
    buffer = RecordBuffer()
    for body in bodies:
        fill(buffer, body)
    wanted = grouped([row for body in bodies for row in kind.rows(body)])
    assert kind.rows(buffer.encode()) == wanted
    pieces = buffer.pieces(bytes_max)
    assert [row for piece, _ in pieces for row in kind.rows(piece)] == wanted
    for piece, count in pieces:
        assert len(kind.rows(piece)) == count
        assert count == 1 or len(piece) <= bytes_max
        assert count


@kinds
@usual
@given(data=st.data())
def test_cut_takes_back_what_was_appended(kind: Kind, data: st.DataObject) -> None:
    before, after = data.draw(requests(kind)), data.draw(requests(kind))
    buffer = RecordBuffer()
    fill(buffer, before)
    state = buffer.count, buffer.size, buffer.closed_runs(), buffer.closed_rest()
    body = buffer.encode()
    fill(buffer, after)
    buffer.cut(*state)
    assert buffer.encode() == body
    fill(buffer, after)
    rows = [*kind.rows(before), *kind.rows(after)]
    assert kind.rows(buffer.encode()) == grouped(rows)


@usual
@given(
    body=st.binary(max_size=60) | requests(LOGS), at=st.integers(0, 400), byte=st.integers(0, 255)
)
def test_damaged_bytes_are_refused_with_their_offset(body: bytes, at: int, byte: int) -> None:
    damaged = body[:at] + bytes((byte,)) + body[at + 1 :]
    offset = fault_at(damaged)
    if offset is not None:
        assert 0 <= offset <= len(damaged)
        return
    envelope = scan(damaged)
    found = sum(stop - first for _, scopes in envelope.resources for _, first, stop in scopes)
    assert found == envelope.count
    buffer = RecordBuffer()
    fill(buffer, damaged)
    assert scan(buffer.encode()).count == found


@kinds
@usual
@given(data=st.data())
def test_groups_are_known_again_in_another_buffer(kind: Kind, data: st.DataObject) -> None:
    bodies = data.draw(st.lists(requests(kind), min_size=1, max_size=3))
    groups: dict[tuple[bytes, bytes], RecordGroup] = {}
    # The numbers that groups have from one buffer mean nothing in the next.
    for order in data.draw(st.lists(st.permutations(bodies), min_size=2, max_size=3)):
        buffer = RecordBuffer()
        for body in order:
            envelope = scan(body)
            for head, scopes in envelope.resources:
                for scope, first, stop in scopes:
                    buffer.append(envelope, first, stop)
                    found = groups.setdefault((head, scope), RecordGroup(head, scope))
                    buffer.close_run(found)
        rows = [row for body in order for row in kind.rows(body)]
        assert kind.rows(buffer.encode()) == grouped(rows)
        assert buffer.encode() == buffer.encode()
