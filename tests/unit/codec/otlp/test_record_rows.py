"""The order in which a batch's rows of records are written, and the room of a batch."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from relay.codec.otlp.record_buffer import RecordBuffer, RecordGroup
from relay.codec.protobuf import field_bytes


def group(resource: str, scope: str) -> RecordGroup:
    """A new group, however many have these heads."""
    return RecordGroup(
        ResourceLogs(schema_url=resource).SerializeToString(),
        ScopeLogs(schema_url=scope).SerializeToString(),
    )


def filled(*rows: tuple[RecordGroup, int]) -> RecordBuffer:
    buffer = RecordBuffer()
    for one, number in rows:
        record = LogRecord(time_unix_nano=number).SerializeToString()
        buffer.append_bytes(field_bytes(b"\x12", record), 1)
        buffer.close_run(one)
    return buffer


def read(body: bytes) -> list[tuple[str, list[tuple[str, list[int]]]]]:
    request = ExportLogsServiceRequest.FromString(body)
    return [
        (
            resource.schema_url,
            [
                (scope.schema_url, [record.time_unix_nano for record in scope.log_records])
                for scope in resource.scope_logs
            ],
        )
        for resource in request.resource_logs
    ]


def test_equal_heads_are_one_scope_in_any_record() -> None:
    again = group("b", "second")
    buffer = filled(
        (group("a", "first"), 1),
        (group("b", "first"), 2),
        (again, 3),
        (group("a", "third"), 4),
        (group("b", "second"), 5),
        (group("a", "first"), 6),
        (again, 7),
        (group("b", "third"), 8),
        (group("a", "third"), 9),
    )
    assert read(buffer.encode()) == [
        ("a", [("first", [1, 6]), ("third", [4, 9])]),
        ("b", [("first", [2]), ("second", [3, 5, 7]), ("third", [8])]),
    ]


def test_a_run_without_records_is_no_resource() -> None:
    buffer = filled((group("a", "first"), 1))
    buffer.close_run(group("b", "first"))
    assert read(buffer.encode()) == [("a", [("first", [1])])]


def test_a_batch_after_a_full_one_has_its_room_at_once() -> None:
    before = filled(*[(group("a", "first"), number) for number in range(1000)])
    buffer = RecordBuffer()
    assert buffer.room() == 0
    buffer.expect_as_many(before)
    assert buffer.room() == 0, "nothing is taken before there is a record"
    buffer.append_bytes(b"\x12\x00", 1)
    assert before.size <= buffer.room() <= before.size * 9 // 8
