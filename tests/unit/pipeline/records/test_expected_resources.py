"""Resources are recognised in the order of the last request, and in any other."""

from __future__ import annotations

import pytest

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.envelope import scan
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.codec.otlp.record_fields import with_severity
from relay.codec.protobuf import field_bytes
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.records.resource_table import ResourceTable
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.tenancy import ANYWHERE
from relay.selector.records.selection import RecordSelection
from tests.kit.otlp.official import LOGS, Row, attribute, grouped

RESOURCES, SCOPES = b"\x0a", b"\x12"
"""Tags of a request and of its resources."""


class Rig:
    """A pipeline of logs whose one batch has all that came."""

    def __init__(self) -> None:
        self.pipeline = RecordsPipeline("logs")
        self.batch = OpenBatch(None, limit=1 << 20, new_buffer=RecordBuffer)
        target = SinkOutputSpec(SinkCounter("x", "s"), [self.batch])
        self.pipeline.router.set_sources("x", "", [("all", RecordSelection(), [target])])
        self.wanted: list[Row] = []

    def send(self, body: bytes) -> None:
        """Ingest a request, and look whether the batch has its records at the end."""
        self.pipeline.ingest(body, now=1.0, tick=1.0)
        self.wanted += LOGS.rows(body)
        assert LOGS.rows(self.batch.point_buffer.encode()) == grouped(self.wanted)

    @property
    def read(self) -> int:
        """Resources and scopes that were read so far."""
        return self.pipeline.table.statistics().read


def request(*labels: str, url: str = "") -> bytes:
    """Return a request with a resource and a record for each label.

    With a URL a resource has a field of its head behind its scope.
    """
    made = LOGS.request()
    for label in labels:
        resource = made.resource_logs.add(schema_url=url)
        resource.resource.attributes.append(attribute("name", label))
        resource.scope_logs.add().log_records.add(severity_number=9)
    return bytes(made.SerializeToString())


def test_any_order_of_resources_finds_each_with_its_own_head() -> None:
    rig = Rig()
    for labels in ("abc", "abc", "cab", "acb", "b", "abcd", "dd", "abc", "xbc"):
        rig.send(request(*labels))
    assert rig.read == 2 * len("abcdx")


def test_a_head_that_is_not_in_one_piece_is_another_resource() -> None:
    rig = Rig()
    whole, split = request("a"), request("a", url="u")
    for body in (whole, split, split, whole, request("b", url="u")):
        rig.send(body)
    assert rig.read == 2 * 3
    for _ in range(2):
        rig.send(request("b", "a", url="u") + request("b"))
    assert rig.read == 2 * 4


def test_an_expected_resource_is_not_looked_up() -> None:
    rig = Rig()
    for _ in range(2):
        rig.send(request("a", "b", "c"))
    known = rig.pipeline.table.young(ANYWHERE)
    known.by_head.clear()
    for entry in known.order:
        entry.scopes.clear()
    rig.send(request("a", "b", "c"))
    assert rig.read == 2 * len("abc")
    assert rig.pipeline.table.young(ANYWHERE) is known


def test_scopes_of_a_resource_are_found_in_any_order() -> None:
    rig = Rig()
    resource, *scopes = (
        field_bytes(b"\x0a", b""),
        *(
            field_bytes(SCOPES, field_bytes(b"\x0a", field_bytes(b"\x0a", name)) + b"\x12\x00")
            for name in (b"one", b"two", b"six")
        ),
    )
    for order in ([0, 1, 2], [0, 1, 2], [2, 1, 0], [1, 1, 0]):
        inner = resource + b"".join(scopes[number] for number in order)
        rig.send(field_bytes(RESOURCES, inner))
    assert rig.read == 1 + 3


def test_what_is_expected_is_forgotten_with_its_generation() -> None:
    rig = Rig()
    table = rig.pipeline.table
    assert isinstance(table, ResourceTable)
    rig.send(request("a", "b"))
    for tick in (4_000.0, 8_000.0, 12_000.0):
        table.sweep(tick)
    assert table.statistics().resources == 0
    rig.send(request("a", "b"))
    assert rig.read == 2 * 2 * len("ab")
    assert table.statistics().resources == len("ab")


@pytest.mark.parametrize(
    ("record", "severity"),
    [
        (b"\x10\x09", 9),
        (b"\x09" + bytes(8) + b"\x10\x09\x1a\x04INFO", 9),
        (b"\x10\x09\x10\x05", 5),
        (b"\x1a\x04INFO\x10\x09" + b"\x2a\x80\x01" + bytes(128), 9),
        (b"\x12\x01\x09\x10\x09", 9),  # another wire type
        (b"\x10\x09\x1a\x04INF", 0),  # cut off
        (b"\x10\x09\x1a", 0),
        (b"\x10\x09\x09" + bytes(7), 0),
        (b"\x10\x09\x2a\x7f" + bytes(126), 0),
        (b"\x10\x09\x09" + bytes(8), 9),
        (b"\x10\x09\x2a\x7f" + bytes(127), 9),
        (b"\x10\x09\x1a\x00", 9),
        (b"\x10\x09\x92\x01\x00", 9),
    ],
)
def test_a_severity_is_read_of_records_that_can_be_read(record: bytes, severity: int) -> None:
    body = field_bytes(RESOURCES, field_bytes(SCOPES, field_bytes(b"\x12", record)))
    envelope = scan(body)
    for least in range(1, 12):
        found = with_severity(envelope, [(0, 1)], least)
        assert found == ([(0, 1)] if severity >= least else [])
