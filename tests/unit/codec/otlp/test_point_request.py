"""Requests of points: texts of every size are copied whole, and every length is as it must be."""

from __future__ import annotations

import pytest

from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import MetricIdentity, encode_time, point_prefix
from relay.codec.otlp.point_buffer import PointBuffer
from tests.kit.oracle.number_points import decode

SCOPE = ScopeGroup(ResourceGroup([("service.name", "s")]), "scope")
STAMP = encode_time(7) or b""


def group_of(name: str, description: str = "") -> MetricGroup:
    """A gauge of the one scope."""
    return MetricGroup(SCOPE, MetricIdentity(name, "gauge", description=description))


@pytest.mark.parametrize("size", [*range(1, 70), 127, 128, 129])
def test_a_text_of_any_size_is_copied_whole(size: int) -> None:
    text = bytes(range(size))
    point_buffer = PointBuffer()
    point_buffer.add_finished(text)
    point_buffer.add_finished(b"")
    point_buffer.add_finished(text[::-1])
    head, tail = b"h" + text, b"t" + text
    identity = MetricIdentity("m", "gauge")
    point_buffer.close_run(MetricGroup.as_came(SCOPE, identity, head, tail))
    # Without the tag of the data and their length, which has two bytes from 128 on.
    data = text + text[::-1] + tail
    body = point_buffer.encode()
    assert body.endswith(data)
    assert body[: -len(data) - (2 if len(data) < 128 else 3)].endswith(head)


@pytest.mark.parametrize("first", [60, 16_300, 2_097_060])
def test_lengths_are_right_where_they_need_another_byte(first: int) -> None:
    """Around 128, 16,384 and 2,097,152 bytes of a metric, its scope and its resource."""
    for size in range(first, first + 90):
        point_buffer = PointBuffer()
        point_buffer.add(point_prefix([("k", "v")]), STAMP, bytes(8))
        point_buffer.close_run(group_of("m", "d" * size))
        (point,) = decode(point_buffer.encode())
        assert len(point.identity.description) == size


def test_points_of_groups_that_take_turns_stand_together_in_their_order() -> None:
    """In each form: a group comes again at once, after another group, and after another scope."""
    other = ScopeGroup(ResourceGroup([("service.name", "t")]), "scope")
    groups = [
        group_of("a"),
        group_of("b"),
        MetricGroup(other, MetricIdentity("c", "gauge")),
        group_of("d"),
    ]
    for turns in ([0, 0, 1], [0, 1, 0], [0, 2, 0], [0, 2, 3], [2, 0, 1, 2, 3, 0]):
        point_buffer = PointBuffer()
        for number, turn in enumerate(turns):
            point_buffer.add(point_prefix([("n", str(number))]), STAMP, bytes(8))
            point_buffer.close_run(groups[turn])
        points = decode(point_buffer.encode())
        seen = [(point.name, dict(point.attributes)["n"]) for point in points]
        firsts = list(dict.fromkeys(turns))
        resources = list(dict.fromkeys(turn == 2 for turn in firsts))
        expected = [
            ("abcd"[turn], str(number))
            for is_other in resources
            for turn in firsts
            if (turn == 2) == is_other
            for number, at in enumerate(turns)
            if at == turn
        ]
        assert seen == expected


def test_points_of_something_else_than_a_metric_are_refused() -> None:
    point_buffer = PointBuffer()
    point_buffer.add_finished(b"point")
    point_buffer.close_run(SCOPE)
    with pytest.raises(TypeError):
        point_buffer.encode()


def test_a_buffer_without_points_is_an_empty_request() -> None:
    point_buffer = PointBuffer()
    assert point_buffer.encode() == b""
    point_buffer.close_run(group_of("m"))
    assert point_buffer.encode() == b""
