"""Requests of points: texts are copied whole, lengths are right, large resources come in parts."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from hashlib import sha256
from itertools import chain, product
from operator import itemgetter
from string import ascii_letters

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics

from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import MetricIdentity, encode_time, point_prefix
from relay.codec.otlp.point_buffer import PointBuffer
from tests.kit.oracle.number_points import decode
from tests.own_time import HELD_S_MAX, LeastTime, slowness

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


PART_BYTES = 24 * 1024
"""Metrics of a part of a resource, at most."""

Entry = tuple[MetricGroup, bytes]
"""A metric, and the prefix of its points."""


def target_of(name: str, scopes: int, metrics: int, text: int) -> list[Entry]:
    """A resource whose scopes have metrics with descriptions of ``text`` bytes each."""
    resource = ResourceGroup([("service.name", name)])
    entries = []
    for scope in range(scopes):
        of_scope = ScopeGroup(resource, f"scope-{scope}")
        for metric in range(metrics):
            description = sha256(b"%d-%d" % (scope, metric)).hexdigest() * (text // 64 + 1)
            identity = MetricIdentity(f"m{metric}", "gauge", description=description[:text])
            label = point_prefix([("of", f"{name}-{scope}-{metric}")])
            entries.append((MetricGroup(of_scope, identity), label))
    return entries


def parts_of(entries: Iterable[Entry], times_ms: Iterable[int] = (7,)) -> list[ResourceMetrics]:
    """The parts of the request of these metrics with two points each; a round for each time."""
    body = body_of(entries, times_ms)
    return list(ExportMetricsServiceRequest.FromString(body).resource_metrics)


def body_of(entries: Iterable[Entry], times_ms: Iterable[int] = (7,)) -> bytes:
    """The request of these metrics."""
    point_buffer = PointBuffer()
    for time_ms, (group, label) in product(times_ms, entries):
        point_buffer.add(label, encode_time(time_ms) or b"", bytes(8))
        point_buffer.add(label, encode_time(time_ms) or b"", b"\1" * 8)
        point_buffer.close_run(group)
    return point_buffer.encode()


def names_of(parts: Iterable[ResourceMetrics]) -> str:
    """The name of each part's resource, a letter each."""
    return "".join(part.resource.attributes[0].value.string_value for part in parts)


def metrics_of(parts: Iterable[ResourceMetrics]) -> list[tuple[str, str, str]]:
    """Resource, scope, and text of each metric, by resource."""
    found = [
        (names_of([part]), scope.scope.name, str(metric))
        for part in parts
        for scope in part.scope_metrics
        for metric in scope.metrics
    ]
    return sorted(found, key=itemgetter(0))  # stable: a resource's metrics keep their order


@pytest.mark.parametrize("scopes", [1, 2, 7])
def test_large_resources_are_written_part_by_part(scopes: int) -> None:
    targets = [target_of(name, scopes, 224 // scopes, 200) for name in "abc"]
    parts = parts_of(chain(*targets))
    assert names_of(parts) == "abcabcabc"
    for part in parts:
        names = [scope.scope.name for scope in part.scope_metrics]
        assert len(set(names)) == len(names)
        sizes = [metric.ByteSize() for scope in part.scope_metrics for metric in scope.metrics]
        assert sum(sizes) <= PART_BYTES
    assert metrics_of(parts) == metrics_of(whole for one in targets for whole in parts_of(one))


@pytest.mark.parametrize("scopes", [1, 2, 7])
def test_points_that_do_not_stand_in_order_are_put_into_the_parts_of_their_metrics(
    scopes: int,
) -> None:
    targets = [target_of(name, scopes, 224 // scopes, 200) for name in "abc"]
    turns = list(chain(*zip(*targets, strict=True)))
    parts = parts_of(chain(turns[::2], turns[1::2]))
    assert names_of(parts) == "acbacbacb"
    wholes = [whole for one in targets for whole in parts_of(one)]
    assert sorted(metrics_of(parts)) == sorted(metrics_of(wholes))


def test_a_small_resource_between_large_ones_stays_whole() -> None:
    targets = [target_of(name, 1, 5 if name == "b" else 224, 200) for name in "abc"]
    parts = parts_of(chain(*targets))
    assert names_of(parts) == "abcacac"
    assert metrics_of(parts) == metrics_of(whole for one in targets for whole in parts_of(one))


def test_a_metric_is_never_cut() -> None:
    targets = [target_of(name, 1, 4, 30_000) for name in "ab"]
    parts = parts_of(chain(*targets))
    assert names_of(parts) == "abababab"
    assert metrics_of(parts) == metrics_of(whole for one in targets for whole in parts_of(one))


@pytest.mark.parametrize(("names", "metrics"), [("a", 500), ("ab", 40), (ascii_letters, 70)])
def test_what_gzip_finds_anyway_is_not_cut(names: str, metrics: int) -> None:
    """One resource alone has no part before; of small ones the one before is near enough."""
    assert names_of(parts_of(chain(*(target_of(name, 1, metrics, 200) for name in names)))) == names


def test_a_resource_with_points_of_two_times_stays_whole() -> None:
    """Prometheus would see a time of the resource's target_info again, behind a later one."""
    entries = [*target_of("a", 2, 112, 200), *target_of("b", 2, 112, 200)]
    assert names_of(parts_of(entries)) == "ababab"
    assert names_of(parts_of(entries, times_ms=(7, 8))) == "ab"
    for late in (0, 111, 112, 223):
        point_buffer = PointBuffer()
        for number, (group, label) in enumerate(entries):
            point_buffer.add(label, encode_time(8 if number == late else 7) or b"", bytes(8))
            point_buffer.close_run(group)
        request = ExportMetricsServiceRequest.FromString(point_buffer.encode())
        assert names_of(request.resource_metrics) == "abbb"


def test_all_points_of_a_run_are_of_one_time() -> None:
    """A run of a metric may begin as the others, and have another time behind."""
    entries = [*target_of("a", 1, 224, 200), *target_of("b", 1, 224, 200)]
    point_buffer = PointBuffer()
    for group, label in entries:
        for time_ms in (7, 8):
            point_buffer.add(label, encode_time(time_ms) or b"", bytes(8))
        point_buffer.close_run(group)
    request = ExportMetricsServiceRequest.FromString(point_buffer.encode())
    assert names_of(request.resource_metrics) == "ab"


@pytest.mark.parametrize(
    ("late", "broken", "names"),
    [(-1, -1, "ababab"), (0, -1, "abbb"), (223, -1, "abbb"), (-1, 5, "abbb")],
)
def test_points_that_are_encoded_as_a_whole_have_a_time_too(
    late: int, broken: int, names: str
) -> None:
    """Histograms, summaries and all of OTLP; one whose time cannot be read keeps all together."""
    entries = [*target_of("a", 1, 224, 200), *target_of("b", 1, 224, 200)]
    point_buffer = PointBuffer()
    for number, (group, label) in enumerate(entries):
        stamp = encode_time(8 if number == late else 7) or b""
        point = label + stamp + bytes(8)
        point_buffer.add_finished(b"" if number == broken else point)
        if number % 2:
            point_buffer.add(label, stamp, bytes(8))
        point_buffer.close_run(group)
    request = ExportMetricsServiceRequest.FromString(point_buffer.encode())
    assert names_of(request.resource_metrics) == names


@pytest.mark.parametrize(("whole", "unreadable"), [(7, False), (9, False), (7, True)])
def test_a_late_run_does_not_take_a_point_encoded_as_a_whole_before_its_time(
    whole: int, unreadable: bool
) -> None:
    """A number with an exemplar is encoded as a whole; it keeps its place behind earlier ones."""
    first, other = point_prefix([("n", "first")]), point_prefix([("n", "other")])
    group = group_of("m")
    point_buffer = PointBuffer()
    point_buffer.add(first, encode_time(7) or b"", bytes(8))
    point_buffer.close_run(group)
    point_buffer.add(other, encode_time(6) or b"", bytes(8))
    if unreadable:
        point_buffer.add_finished(b"")
    point_buffer.add_finished(first + (encode_time(whole) or b"") + b"\1" * 8)
    point_buffer.close_run(group)
    points = [one for one in decode(point_buffer.encode()) if ("n", "first") in one.attributes]
    assert [one.time_ns // 1_000_000 for one in points] == [7, whole]
    assert [one.value_bits for one in points] == [0, int.from_bytes(b"\1" * 8, "little")]


def test_a_late_run_goes_before_points_encoded_as_a_whole_that_are_later() -> None:
    """Of one metric, runs of both forms are put in order of time."""
    label = point_prefix([("n", "1")])
    group = group_of("m")
    point_buffer = PointBuffer()
    for time_ms in (7, 6):
        if time_ms == 7:
            point_buffer.add(label, encode_time(7) or b"", bytes(8))
            point_buffer.add_finished(label + (encode_time(8) or b"") + bytes(8))
        else:
            point_buffer.add(label, encode_time(6) or b"", bytes(8))
        point_buffer.close_run(group)
    times = [one.time_ns // 1_000_000 for one in decode(point_buffer.encode())]
    assert times == [6, 7, 8]


def test_late_runs_of_points_encoded_as_a_whole_do_not_hold_the_loop() -> None:
    """Each looks at many points of those before, whose times stand behind their labels."""
    label = point_prefix([(f"label_{number}", "x" * 20) for number in range(30)])
    group, other = group_of("m"), group_of("other")
    point_buffer = PointBuffer()
    for time_ms in range(2_000, 0, -1):
        stamp = encode_time(time_ms) or b""
        point_buffer.add(label, stamp, bytes(8))
        point_buffer.add_finished(label + stamp + bytes(8))
        point_buffer.close_run(group)
        point_buffer.add(label, stamp, bytes(8))
        point_buffer.close_run(other)
    least = LeastTime()
    for _ in range(3):
        with least.attempt():
            point_buffer.encode()
    assert least.s < HELD_S_MAX * slowness()


def test_alike_targets_are_compressed_together() -> None:
    targets = [target_of(name, 1, 224, 150) for name in ascii_letters[:10]]
    alone = [len(zlib.compress(body_of(target), 1)) for target in targets]
    assert len(zlib.compress(body_of(chain(*targets)), 1)) < 0.4 * sum(alone)
